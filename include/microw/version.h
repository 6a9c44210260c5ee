/* microw/version.h: the version of these headers; mw_version() returns the version of the library. */
#ifndef MICROW_VERSION_H
#define MICROW_VERSION_H

#define MICROW_VERSION_MAJOR 0
#define MICROW_VERSION_MINOR 1
#define MICROW_VERSION_PATCH 0

/* For comparisons: #if MICROW_VERSION_NUMBER >= MICROW_VERSION_OF(0, 2, 0) */
#define MICROW_VERSION_OF(major, minor, patch) ((major)*10000 + (minor)*100 + (patch))
#define MICROW_VERSION_NUMBER MICROW_VERSION_OF(MICROW_VERSION_MAJOR, MICROW_VERSION_MINOR, MICROW_VERSION_PATCH)

#define MICROW_TEXT_OF_(x) #x
#define MICROW_TEXT_OF(x) MICROW_TEXT_OF_(x)
#define MICROW_VERSION                                                                                                 \
    MICROW_TEXT_OF(MICROW_VERSION_MAJOR)                                                                               \
    "." MICROW_TEXT_OF(MICROW_VERSION_MINOR) "." MICROW_TEXT_OF(MICROW_VERSION_PATCH)

#endif
