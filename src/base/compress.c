/* base64 of bytes, of their zlib stream and of their SHA-256, for pages and URLs. */
#include "microw/base.h"

#include <limits.h>
#include <openssl/evp.h>
#include <zlib.h>

mw_status mw_base64(const void *data, size_t length, mw_text *out) {
    enum { PIECE = 3 << 16 }; /* whole triples: no padding between pieces */
    unsigned char piece[PIECE / 3 * 4 + 1];
    const unsigned char *at = data;
    for (size_t n; length > 0; at += n, length -= n) {
        n = length < PIECE ? length : PIECE;
        int made = EVP_EncodeBlock(piece, at, (int)n);
        mw_text_add(out, (const char *)piece, (size_t)made);
    }
    mw_text_add(out, "", 0);
    return out->failed ? MW_ERR_MEMORY : MW_OK;
}

mw_status mw_deflate_base64(const void *data, size_t length, mw_text *out) {
    uLong bound = compressBound((uLong)length);
    Bytef *small = mw_alloc(bound);
    if (!small) return MW_ERR_MEMORY;
    mw_status status = compress2(small, &bound, data, (uLong)length, 6) == Z_OK
                           ? mw_base64(small, bound, out)
                           : mw_error(MW_ERR_MEMORY, "%zu bytes: compression failed", length);
    mw_free(small);
    return status;
}

mw_status mw_sha256_base64(const void *data, size_t length, mw_text *out) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    if (EVP_Digest(data, length, digest, &size, EVP_sha256(), NULL) != 1)
        return mw_error(MW_ERR_IO, "SHA-256 failed in the cryptography library");
    return mw_base64(digest, size, out);
}
