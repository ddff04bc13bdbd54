# Options, and what every target of the project has in common.

option(TG_BUILD_PYTHON "Build the Python extension module _C" OFF)
option(TG_BUILD_TESTS "Build the C++ tests (needs doctest)" ${PROJECT_IS_TOP_LEVEL})
option(TG_BUILD_EXAMPLES "Build examples/*.cpp" ${PROJECT_IS_TOP_LEVEL})
option(TG_BUILD_BENCHMARKS "Build benchmarks/cpp/*.cpp" OFF)
option(TG_WERROR "Treat warnings as errors" ${PROJECT_IS_TOP_LEVEL})
option(TG_INSTALL "Add install rules" ${PROJECT_IS_TOP_LEVEL})
option(TG_PCH "Precompile core/tensor.h" OFF)
set(TG_SANITIZE "" CACHE STRING "Sanitizers of the whole build: address;undefined | thread")
set(TG_BLAS AUTO CACHE STRING "Where CBLAS comes from: AUTO | scipy (the scipy-openblas32 wheel) | system")
set_property(CACHE TG_BLAS PROPERTY STRINGS AUTO scipy system)

if(PROJECT_IS_TOP_LEVEL)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
  endif()
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  find_program(TG_CCACHE ccache)
  if(TG_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${TG_CCACHE})
  endif()
endif()

find_package(Threads REQUIRED)
if(TG_BUILD_PYTHON)
  find_package(Python REQUIRED COMPONENTS Interpreter Development.Module)
else()
  find_package(Python REQUIRED COMPONENTS Interpreter)
endif()

# The wheel keeps library, headers and CMake files inside the package's own folder; anything else follows the system.
if(SKBUILD_PROJECT_NAME STREQUAL "tinygrad_cpp")
  set(tg_wheel ON)
  set(tg_install_lib tinygrad_cpp)
  set(tg_install_include tinygrad_cpp/include/tinygrad_cpp)
  set(tg_install_cmake tinygrad_cpp/cmake)
else()
  include(GNUInstallDirs)
  set(tg_wheel OFF)
  set(tg_install_lib ${CMAKE_INSTALL_LIBDIR})
  set(tg_install_include ${CMAKE_INSTALL_INCLUDEDIR}/tinygrad_cpp)
  set(tg_install_cmake ${CMAKE_INSTALL_LIBDIR}/cmake/tinygrad_cpp)
endif()
if(APPLE)
  set(tg_origin @loader_path)
else()
  set(tg_origin $ORIGIN)
endif()

# -ffp-contract=off: a fused multiply-add rounds once instead of twice, so its use may not depend on the instruction set.
function(tg_target target)
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -ffp-contract=off -fno-math-errno -fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=
    $<$<CONFIG:Release>:-O2>
    $<$<BOOL:${TG_WERROR}>:-Werror>)
  if(TG_SANITIZE)
    list(JOIN TG_SANITIZE "," names)
    # What null and object-size look for ends in an access that the address sanitizer reports. GCC's instrumentation
    # makes it see uninitialised members that are not.
    target_compile_options(${target} PRIVATE
      -fsanitize=${names} -fno-sanitize=null,object-size -fno-sanitize-recover=all -fno-omit-frame-pointer
      $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
    target_link_options(${target} PRIVATE -fsanitize=${names})
  endif()
  if(TARGET tg_generated)
    add_dependencies(${target} tg_generated)
  endif()
endfunction()
