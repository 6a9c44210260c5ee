/* SHA-256 and XXH64. */
#include "microw/base.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <xxhash.h>

mw_status mw_sha256(const void *data, size_t length, char out[MW_SHA256_TEXT]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    if (EVP_Digest(data ? data : "", length, digest, &size, EVP_sha256(), NULL) != 1 || size != 32)
        return mw_error(MW_ERR_IO, "SHA-256 failed in the cryptography library");
    for (int i = 0; i < 32; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return MW_OK;
}

mw_status mw_sha256_file(const char *path, char out[MW_SHA256_TEXT]) {
    mw_map map;
    MW_TRY(mw_map_open(path, &map));
    mw_status status = mw_sha256(map.data, map.length, out);
    mw_map_close(&map);
    return status;
}

uint64_t mw_xxh64(const void *data, size_t length) {
    return XXH64(data, length, 0);
}
