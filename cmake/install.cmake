# Library, headers and the CMake package. The installed tree repeats the source tree under include/tinygrad_cpp.

include(CMakePackageConfigHelpers)

install(TARGETS tinygrad_cpp EXPORT tinygrad_cppTargets
  LIBRARY DESTINATION ${tg_install_lib} RUNTIME DESTINATION ${tg_install_lib})
install(EXPORT tinygrad_cppTargets NAMESPACE tinygrad_cpp:: DESTINATION ${tg_install_cmake})

set(tg_header_patterns FILES_MATCHING PATTERN "*.h" PATTERN "*.inc" PATTERN "*.def")
install(DIRECTORY ${tg_layers} DESTINATION ${tg_install_include} ${tg_header_patterns})
install(DIRECTORY include/tg DESTINATION ${tg_install_include} ${tg_header_patterns})
install(DIRECTORY ${tg_generated_dir}/ DESTINATION ${tg_install_include} ${tg_header_patterns})

configure_package_config_file(cmake/tinygrad_cppConfig.cmake.in ${PROJECT_BINARY_DIR}/tinygrad_cppConfig.cmake
  INSTALL_DESTINATION ${tg_install_cmake})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tinygrad_cppConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/tinygrad_cppConfig.cmake ${PROJECT_BINARY_DIR}/tinygrad_cppConfigVersion.cmake
  DESTINATION ${tg_install_cmake})
