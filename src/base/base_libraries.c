/* The libraries of this floor. */
#include "base/json.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <xxhash.h>
#include <zlib.h>
#include <zstd.h>

/* Before 2.13 it did not tell. */
static const char *jansson(void) {
#if JANSSON_VERSION_HEX >= 0x020d00
    return jansson_version_str();
#else
    return JANSSON_VERSION;
#endif
}

void mw_base_libraries(mw_library_callback *told, void *self) {
    char xxhash[32];
    unsigned number = XXH_versionNumber();
    snprintf(xxhash, sizeof xxhash, "%u.%u.%u", number / 10000, number / 100 % 100, number % 100);
    told(self, "jansson", jansson());
    told(self, "zlib", zlibVersion());
    told(self, "zstd", ZSTD_versionString());
    told(self, "xxHash", xxhash);
    told(self, "OpenSSL", OpenSSL_version(OPENSSL_VERSION));
}
