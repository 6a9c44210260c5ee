# Writes OUT, a header with the git version of the sources, only if the version has changed: a changed OUT recompiles version.c.
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
