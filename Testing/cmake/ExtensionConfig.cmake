# SPDX-License-Identifier: Apache-2.0
# Stub; see SlicerConfig.cmake. What Slicer and its Extensions Index want of every extension.
foreach(name HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL DEPENDS)
  if("${EXTENSION_${name}}" STREQUAL "")
    message(FATAL_ERROR "EXTENSION_${name} is not set")
  endif()
endforeach()
if(PROJECT_NAME MATCHES "^Slicer")
  message(FATAL_ERROR "The name of an extension must not begin with Slicer")
endif()
