# The extension module tinygrad_cpp._C. <build>/python is an importable package: PYTHONPATH=<build>/python.

if(NOT pybind11_DIR)
  execute_process(COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir
    OUTPUT_VARIABLE tg_pybind11_dir ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(tg_pybind11_dir)
    set(pybind11_DIR ${tg_pybind11_dir} CACHE PATH "pybind11's CMake files")
  endif()
endif()
find_package(pybind11 3.1 CONFIG REQUIRED)

file(GLOB tg_python_sources CONFIGURE_DEPENDS python/*.cpp)
pybind11_add_module(_C MODULE NO_EXTRAS ${tg_python_sources})
tg_target(_C)
target_link_libraries(_C PRIVATE tinygrad_cpp)
set_target_properties(_C PROPERTIES
  LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/python/tinygrad_cpp INSTALL_RPATH ${tg_origin})
if(TG_PCH)
  target_precompile_headers(_C PRIVATE <pybind11/pybind11.h> ${PROJECT_SOURCE_DIR}/core/tensor.h)
endif()

file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/python/tinygrad_cpp)
file(GLOB tg_package_files CONFIGURE_DEPENDS LIST_DIRECTORIES true python/tinygrad_cpp/*)
foreach(path IN LISTS tg_package_files)
  cmake_path(GET path FILENAME name)
  if(NOT name STREQUAL "__pycache__")
    file(CREATE_LINK ${path} ${PROJECT_BINARY_DIR}/python/tinygrad_cpp/${name} SYMBOLIC)
  endif()
endforeach()

# Type stubs come from the op table, so they are made with the module that carries it.
if(NOT TG_SANITIZE AND NOT CMAKE_CROSSCOMPILING)
  add_custom_command(TARGET _C POST_BUILD VERBATIM COMMAND ${Python_EXECUTABLE}
    ${PROJECT_SOURCE_DIR}/python/make_stubs.py --module $<TARGET_FILE:_C>
    --package ${PROJECT_SOURCE_DIR}/python/tinygrad_cpp --out $<TARGET_FILE_DIR:_C>)
  if(tg_wheel)
    set(tg_stubs ${PROJECT_BINARY_DIR}/python/tinygrad_cpp)
    install(FILES ${tg_stubs}/__init__.pyi DESTINATION tinygrad_cpp)
    install(DIRECTORY ${tg_stubs}/_C DESTINATION tinygrad_cpp FILES_MATCHING PATTERN "*.pyi")
  endif()
endif()

if(tg_wheel)
  install(TARGETS _C LIBRARY DESTINATION tinygrad_cpp)
endif()
