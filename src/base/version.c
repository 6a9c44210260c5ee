#include "microw/base.h"

const char *mw_version(void) {
    return MICROW_VERSION;
}

const char *mw_version_git(void) {
    return MICROW_GIT;
}
