# SPDX-License-Identifier: Apache-2.0
# Stub; see SlicerConfig.cmake. Slicer's packs README and LICENSE with the extension and fails without them.
foreach(name README.md LICENSE)
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${name}")
    message(FATAL_ERROR "${name} is missing")
  endif()
endforeach()
