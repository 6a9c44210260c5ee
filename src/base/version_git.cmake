# Writes OUT, a header with the version of the sources by git, if that has changed: what includes it is then compiled again.
execute_process(COMMAND git describe --always --dirty WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE git OUTPUT_STRIP_TRAILING_WHITESPACE
                ERROR_QUIET)
if(NOT git)
  set(git "unknown")
endif()
set(text "#define MICROW_GIT \"${git}\"\n")
if(EXISTS ${OUT})
  file(READ ${OUT} former)
endif()
if(NOT text STREQUAL "${former}")
  file(WRITE ${OUT} "${text}")
endif()
