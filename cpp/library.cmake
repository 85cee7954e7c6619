# The shared library libsoftstair, its header, and what pkg-config says of it.
include(GNUInstallDirs)

foreach(part softstair_core softstair_decoder)
  set_target_properties(${part} PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
endforeach()

# Object files of the face bring in what they need of the archives; only softstair.h is visible.
add_library(softstair SHARED cpp/decoder/face.cpp)
target_link_libraries(softstair PRIVATE softstair_decoder)
target_compile_definitions(softstair PRIVATE SOFTSTAIR_SHARED)
set_target_properties(softstair PROPERTIES
  VERSION ${PROJECT_VERSION} SOVERSION 0 CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
  PUBLIC_HEADER cpp/decoder/softstair.h)
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  target_link_options(softstair PRIVATE -Wl,--gc-sections -Wl,--exclude-libs,ALL)
endif()

configure_file(cpp/softstair.pc.in softstair.pc @ONLY)
install(TARGETS softstair
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} PUBLIC_HEADER DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/softstair.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
