# SPDX-License-Identifier: Apache-2.0
# A STUB of 3D Slicer's build system, so that the extension's CMake files can be checked where no Slicer is built.
# It knows the variables and macros that this extension uses, with the checks that Slicer makes of their arguments. It
# copies files where Slicer's macros put them, and neither compiles nor packages anything.
message(STATUS "This is not 3D Slicer: a stub that checks the extension's CMake files")

set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "lib/Slicer-stub/qt-scripted-modules")
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/ExtensionConfig.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/ExtensionCPack.cmake")
