# Makes from the public headers EXPORTS.map, the version script of the shared library, and EXPORTS.txt, the global
# symbols of the static library.
file(GLOB headers ${HEADERS}/*.h)
set(names)
foreach(header ${headers})
  file(READ ${header} text)
  string(REGEX REPLACE "typedef [a-z_ *]+\\(" "" text "${text}") # function types are not symbols
  string(REGEX MATCHALL "[^a-z0-9_]mw_[a-z0-9_]+\\(" found "${text}")
  foreach(name ${found})
    string(REGEX REPLACE "^.(.*)\\($" "\\1" name "${name}")
    list(APPEND names ${name})
  endforeach()
endforeach()
list(REMOVE_DUPLICATES names)
list(SORT names)
list(JOIN names "\n" lines)
file(WRITE ${EXPORTS}.txt "${lines}\n")
list(JOIN names ";\n        " lines)
file(WRITE ${EXPORTS}.map "{\n    global:\n        ${lines};\n    local: *;\n};\n")
