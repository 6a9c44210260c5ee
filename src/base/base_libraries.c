/* Versions of the libraries that src/base uses. */
#include "base/json.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <xxhash.h>
#include <zlib.h>
#include <zstd.h>

/* jansson before 2.13 does not report the loaded version. */
static const char *jansson(void) {
#if JANSSON_VERSION_HEX >= 0x020d00
    return jansson_version_str();
#else
    return JANSSON_VERSION;
#endif
}

void mw_base_libraries(mw_library_callback *report, void *self) {
    char xxhash[32];
    unsigned number = XXH_versionNumber();
    snprintf(xxhash, sizeof xxhash, "%u.%u.%u", number / 10000, number / 100 % 100, number % 100);
    report(self, "jansson", jansson());
    report(self, "zlib", zlibVersion());
    report(self, "zstd", ZSTD_versionString());
    report(self, "xxHash", xxhash);
    report(self, "OpenSSL", OpenSSL_version(OPENSSL_VERSION));
}
