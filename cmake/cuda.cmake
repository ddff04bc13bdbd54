# The CUDA plug-in, made of backends/cuda twice: by nvcc (libtinygrad_cuda) and, for machines and tests without a GPU, by
# the host's compiler over an emulation of CUDA (libtinygrad_cuda_emu). Neither is linked by anything: backends/cuda.cpp
# opens them at run time.

set(TG_CUDA AUTO CACHE STRING "Build the CUDA plug-in: AUTO (if nvcc is found) | ON | OFF")
set_property(CACHE TG_CUDA PROPERTY STRINGS AUTO ON OFF)
option(TG_CUDA_EMULATION "Build the emulated CUDA plug-in" ON)
set(TG_CUDA_ARCHITECTURES "75-virtual;90a-real" CACHE STRING
  "What the plug-in holds: machine code for the cards it is tuned for, PTX for all others since 7.5")

file(GLOB tg_cuda_sources CONFIGURE_DEPENDS backends/cuda/*.cu backends/cuda/*.cpp)
file(GLOB tg_cuda_emu_sources CONFIGURE_DEPENDS backends/cuda/emu/*.cpp)

# Common to both: a module that needs the library and shows what its exports file names.
function(tg_cuda_plugin name)
  add_library(${name} MODULE ${tg_cuda_sources} ${ARGN})
  target_compile_features(${name} PRIVATE cxx_std_20)
  target_link_libraries(${name} PRIVATE tinygrad_cpp Threads::Threads ${CMAKE_DL_LIBS})
  set_target_properties(${name} PROPERTIES
    CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON UNITY_BUILD OFF
    CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    LIBRARY_OUTPUT_DIRECTORY $<TARGET_FILE_DIR:tinygrad_cpp> INSTALL_RPATH "${tg_origin}")
  if(NOT APPLE)
    target_link_options(${name} PRIVATE
      -Wl,--exclude-libs,ALL -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/${name}_exports.map)
    set_property(TARGET ${name} APPEND PROPERTY LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/${name}_exports.map)
  endif()
  add_dependencies(${name} tg_generated)
  if(TG_INSTALL)
    install(TARGETS ${name} LIBRARY DESTINATION ${tg_install_lib})
  endif()
endfunction()

# ---- by nvcc -------------------------------------------------------------------------------------------------
if(NOT TG_CUDA STREQUAL "OFF" AND NOT TG_SANITIZE)
  include(CheckLanguage)
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(TG_NVCC nvcc PATHS /usr/local/cuda/bin)
    if(TG_NVCC)
      set(CMAKE_CUDA_COMPILER ${TG_NVCC})
    endif()
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_ARCHITECTURES ${TG_CUDA_ARCHITECTURES})
    set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    if(TG_CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
      set(CMAKE_CUDA_COMPILER_LAUNCHER ${TG_CCACHE})
    endif()
    message(STATUS "tinygrad_cpp: CUDA plug-in by nvcc ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
    tg_cuda_plugin(tinygrad_cuda)
    target_link_libraries(tinygrad_cuda PRIVATE CUDA::cudart_static)
    target_include_directories(tinygrad_cuda SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
    target_compile_options(tinygrad_cuda PRIVATE
      $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr --expt-extended-lambda
        -Xcompiler=-Wall,-Wextra,-fwrapv,-ffp-contract=off,-fno-math-errno>
      $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra>
      $<$<AND:$<BOOL:${TG_WERROR}>,$<COMPILE_LANGUAGE:CUDA>>:-Werror=all-warnings -Xcompiler=-Werror>
      $<$<AND:$<BOOL:${TG_WERROR}>,$<COMPILE_LANGUAGE:CXX>>:-Werror>)
    # Random numbers and steps of optimizers are those of the CPU to the bit, so nothing is contracted where they are made.
    set_property(SOURCE backends/cuda/map.cu backends/cuda/update.cu APPEND PROPERTY COMPILE_OPTIONS $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false>)
  elseif(TG_CUDA STREQUAL "ON")
    message(FATAL_ERROR "TG_CUDA=ON, but there is no nvcc that works: install the CUDA toolkit (13.0 or newer), or set CUDACXX; "
      "get_nvcc in tools/setup.sh shows how to have one from PyPI")
  else()
    message(STATUS "tinygrad_cpp: no nvcc, so no CUDA plug-in")
  endif()
endif()

# ---- by the host's compiler ----------------------------------------------------------------------------------
if(TG_CUDA_EMULATION)
  # The same files under other names: a source has one language per folder, and here it is C++.
  set(tg_emu_folder ${PROJECT_BINARY_DIR}/cuda_emu)
  set(tg_cuda_cu_sources ${tg_cuda_sources})
  list(FILTER tg_cuda_cu_sources INCLUDE REGEX "\\.cu$")
  set(tg_cuda_emu_kernels "")
  foreach(source IN LISTS tg_cuda_cu_sources)
    cmake_path(GET source STEM name)
    set(copy ${tg_emu_folder}/${name}.cpp)
    file(CONFIGURE OUTPUT ${copy} CONTENT "#include \"${source}\"\n" @ONLY)
    list(APPEND tg_cuda_emu_kernels ${copy})
  endforeach()
  list(FILTER tg_cuda_sources INCLUDE REGEX "\\.cpp$")
  tg_cuda_plugin(tinygrad_cuda_emu ${tg_cuda_emu_kernels} ${tg_cuda_emu_sources})
  tg_target(tinygrad_cuda_emu)
  target_compile_definitions(tinygrad_cuda_emu PRIVATE TG_CUDA_EMULATION)
  target_compile_options(tinygrad_cuda_emu PRIVATE -fwrapv -Wno-unknown-pragmas)
  # What orders threads is told to the race checker by hand.
  set_property(SOURCE ${tg_cuda_emu_sources} APPEND PROPERTY COMPILE_OPTIONS
    $<$<STREQUAL:${TG_SANITIZE},thread>:-fno-sanitize=thread>)
endif()

# ---- what the emulation must catch ---------------------------------------------------------------------------
# tg_planted(BUG TEXT [SEED]): the planted bug makes the program print TEXT.
function(tg_planted bug text)
  set(seed 0)
  if(ARGC GREATER 2)
    set(seed ${ARGV2})
  endif()
  add_test(NAME cuda_planted_${bug} COMMAND cuda_planted ${bug})
  set_tests_properties(cuda_planted_${bug} PROPERTIES
    PASS_REGULAR_EXPRESSION "${text}" ENVIRONMENT "TG_EMU_SEED=${seed}")
endfunction()

if(TG_CUDA_EMULATION AND TG_BUILD_TESTS)
  enable_testing()
  add_executable(cuda_planted tests/cuda/planted.cpp
    backends/cuda/emu/block.cpp backends/cuda/emu/fiber.cpp backends/cuda/emu/runtime.cpp)
  tg_target(cuda_planted)
  target_compile_features(cuda_planted PRIVATE cxx_std_20)
  set_target_properties(cuda_planted PROPERTIES UNITY_BUILD OFF)
  target_compile_definitions(cuda_planted PRIVATE TG_CUDA_EMULATION)
  target_include_directories(cuda_planted PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(cuda_planted PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
  foreach(seed RANGE 0 5)
    add_test(NAME cuda_planted_none_${seed} COMMAND cuda_planted none)
    set_tests_properties(cuda_planted_none_${seed} PROPERTIES ENVIRONMENT "TG_EMU_SEED=${seed}"
      PASS_REGULAR_EXPRESSION "^right result\nright result\nright result\n$" FAIL_REGULAR_EXPRESSION "Sanitizer")
  endforeach()
  tg_planted(early_return "left the kernel while")
  tg_planted(two_barriers "two different __syncthreads")
  tg_planted(host_pointer "is no device memory")
  tg_planted(freed "was freed")
  tg_planted(too_many_threads "cudaErrorInvalidConfiguration")
  if(NOT TG_SANITIZE)
    tg_planted(no_barrier "wrong result: -?nan")
    tg_planted(no_barrier_before_reuse "wrong result" 3)
    tg_planted(no_event "wrong result")
    tg_planted(host_reads "the host touched device memory")
  elseif(TG_SANITIZE MATCHES "address")
    tg_planted(shared_too_far "out of bounds|AddressSanitizer: use-after-poison")
    tg_planted(write_too_far "AddressSanitizer: use-after-poison")
  elseif(TG_SANITIZE MATCHES "thread")
    tg_planted(no_barrier "ThreadSanitizer: data race")
    tg_planted(no_barrier_before_reuse "ThreadSanitizer: data race")
    tg_planted(no_warp_sync "ThreadSanitizer: data race")
    tg_planted(not_atomic "ThreadSanitizer: data race")
    tg_planted(one_pair "ThreadSanitizer: data race")
  endif()
endif()

# tg_emulated_tests(PROGRAM): what every backend must do, on the emulated device; threads in order, in any, and with one
# warp far ahead (a share of the calls: 21 seconds instead of 70); and what is longer than one launch counts, where that
# is 100 elements rather than 2^30, so that nearly every call is cut.
function(tg_emulated_tests program)
  set(runs 0:1 2:1 3:4 pieces:1) # what, and one call in how many
  if(TG_SANITIZE MATCHES "thread")
    set(runs 0:1 2:4 pieces:8)
  elseif(TG_SANITIZE)
    set(runs 0:1 2:1 3:4)
  endif()
  foreach(run IN LISTS runs)
    string(REPLACE ":" ";" run ${run})
    list(POP_FRONT run what share)
    set(name ${program}_cuda_emulation_${what})
    set(environment TG_CUDA_EMULATE=1 TG_CUDA_EMULATE_DEVICES=3 TG_TEST_BACKEND=cuda TG_TEST_SHARE=${share})
    if(what STREQUAL "pieces")
      list(APPEND environment TG_EMU_PIECE=100)
    else()
      list(APPEND environment TG_EMU_SEED=${what})
    endif()
    if(TG_SANITIZE MATCHES "thread") # tests/cuda/sanitized.py looks whether any kernel was left out
      file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/kernels)
      list(APPEND environment TG_EMU_KERNELS=${PROJECT_BINARY_DIR}/kernels/${what})
    endif()
    add_test(NAME ${name}
      COMMAND ${program} --source-file=*test_cuda*,*test_backend_* --source-file-exclude=*scalar*
      WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_property(TEST ${name} PROPERTY ENVIRONMENT ${environment})
  endforeach()
endfunction()
