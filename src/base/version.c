#include "microw/base.h"
#include "microw/version.h"

#include <version_git.h> /* made by each build */

const char *mw_version(void) {
    return MICROW_VERSION;
}

const char *mw_version_git(void) {
    return MICROW_GIT;
}

const char *mw_version_compiler(void) {
#ifdef __clang__
    return "clang " __clang_version__;
#else
    return "gcc " __VERSION__;
#endif
}

const char *mw_version_build(void) {
    return MICROW_BUILD;
}
