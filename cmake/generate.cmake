# The op table (core/pointwise.def and the declarations in ops/*.cpp) becomes C++ before anything is compiled.
# gen_ops.py leaves a file alone whose text would not change, so that only real changes cause compilation.

set(tg_generated_dir ${PROJECT_BINARY_DIR}/generated)
set(tg_generated_sources ${tg_generated_dir}/ops/ops_gen.cpp)
set(tg_generated_stamp ${tg_generated_dir}/gen_ops.stamp)

configure_file(cmake/version.h.in ${tg_generated_dir}/core/version.h @ONLY)

file(GLOB tg_op_sources CONFIGURE_DEPENDS ops/*.cpp)
add_custom_command(
  OUTPUT ${tg_generated_stamp}
  BYPRODUCTS ${tg_generated_dir}/ops/ops.h ${tg_generated_dir}/ops/tensor_methods.inc ${tg_generated_sources}
  COMMAND ${Python_EXECUTABLE} ${PROJECT_SOURCE_DIR}/ops/gen_ops.py
          --root ${PROJECT_SOURCE_DIR} --out ${tg_generated_dir}
  COMMAND ${CMAKE_COMMAND} -E touch ${tg_generated_stamp}
  DEPENDS ops/gen_ops.py core/pointwise.def ${tg_op_sources}
  COMMENT "Reading the op table"
  VERBATIM)

# What kernels compiled at run time contain.
set(tg_device_text ${tg_generated_dir}/backends/device_text.cpp)
add_custom_command(
  OUTPUT ${tg_device_text}
  COMMAND ${Python_EXECUTABLE} ${PROJECT_SOURCE_DIR}/backends/rtc/text.py
          --root ${PROJECT_SOURCE_DIR} --out ${tg_device_text}
  DEPENDS backends/rtc/text.py backends/rtc/prelude.cuh core/device_code.h core/convert.h core/philox.h
          backends/scalar_special.h backends/scalar_math.h backends/random_bits.h
          backends/cuda/emu/runtime_api.h backends/cuda/emu/emu.h backends/cuda/emu/dialect.h
  COMMENT "Embedding the device functions"
  VERBATIM)
list(APPEND tg_generated_sources ${tg_device_text})

set_source_files_properties(${tg_generated_sources} PROPERTIES GENERATED ON)
add_custom_target(tg_generated DEPENDS ${tg_generated_stamp})
