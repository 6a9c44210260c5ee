/* safetensors files: valid ones, every kind of detectable damage, and random damage. */
#include "microw/safetensors.h"
#include "test.h"

#include <unistd.h>

static char path[] = "/tmp/microw-st-XXXXXX";

static void write_raw(const char *header, size_t data_bytes) {
    uint64_t length = strlen(header);
    char *whole = mw_calloc(8 + length + data_bytes, 1);
    memcpy(whole, &length, 8);
    memcpy(whole + 8, header, length);
    NEED_OK(mw_file_write_atomic(path, whole, 8 + length + data_bytes));
    mw_free(whole);
}

static mw_status open_it(void) {
    mw_safetensors *file = NULL;
    mw_log_quiet(true);
    mw_status status = mw_safetensors_open(path, &file);
    mw_log_quiet(false);
    mw_safetensors_free(&file);
    return status;
}

static void round_trip(void) {
    float a[6] = {1, 2, 3, 4, 5, 6};
    int64_t n[2] = {7, -8};
    const mw_named_tensor tensors[] = {{"weird \"name\"", mw_tensor_2d(MW_F32, a, 2, 3)},
                                       {"n", mw_tensor_1d(MW_I64, n, 2)}};
    const char *const metadata[] = {"key", "value \n", NULL};
    NEED_OK(mw_safetensors_write(path, tensors, 2, metadata));
    mw_safetensors *file = NULL;
    mw_tensor t;
    NEED_OK(mw_safetensors_open(path, &file));
    CHECK(mw_safetensors_count(file) == 2 && strcmp(mw_safetensors_metadata(file, "key"), "value \n") == 0);
    CHECK(mw_safetensors_find(file, "weird \"name\"", &t) && t.ndim == 2 && t.shape[1] == 3 &&
          memcmp(t.data, a, 24) == 0);
    CHECK(mw_safetensors_find(file, "n", &t) && t.dtype == MW_I64 && memcmp(t.data, n, 16) == 0);
    CHECK(!mw_safetensors_find(file, "m", &t) && mw_safetensors_metadata(file, "x") == NULL);
    mw_safetensors_free(&file);
}

/* A header may have any length, so data may begin at any byte: every type is read correctly there. */
static void odd_headers(void) {
    static const uint16_t bf16[3] = {0x3f80, 0xbf80, 0x4000}, f16[3] = {0x3c00, 0xbc00, 0x4000};
    static const float f32[3] = {1, -1, 2};
    static const double f64[3] = {1, -1, 2};
    static const char header[] = "{\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[0,6]},"
                                 "\"h\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[6,12]},"
                                 "\"f\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[12,24]},"
                                 "\"d\":{\"dtype\":\"F64\",\"shape\":[3],\"data_offsets\":[24,48]}}       ";
    static const char *const names[] = {"b", "h", "f", "d"};
    for (uint64_t length = sizeof header - 8; length < sizeof header; length++) {
        char whole[512];
        memcpy(whole, &length, 8);
        memcpy(whole + 8, header, length);
        const void *parts[] = {bf16, f16, f32, f64};
        static const size_t bytes[] = {6, 6, 12, 24};
        size_t at = 8 + length;
        for (int i = 0; i < 4; at += bytes[i++]) memcpy(whole + at, parts[i], bytes[i]);
        NEED_OK(mw_file_write_atomic(path, whole, at));
        mw_safetensors *file = NULL;
        NEED_OK(mw_safetensors_open(path, &file));
        for (int i = 0; i < 4; i++) {
            mw_tensor t;
            float out[3];
            NEED(mw_safetensors_find(file, names[i], &t));
            CHECK_OK(mw_convert_to_f32(t.dtype, t.data, 3, out));
            CHECK(memcmp(out, f32, sizeof out) == 0);
        }
        mw_safetensors_free(&file);
    }
}

static void broken_files(void) {
    NEED_OK(mw_file_write_atomic(path, "abc", 3));
    CHECK(open_it() == MW_ERR_FORMAT); /* shorter than the length of a header */
    write_raw("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
    CHECK(open_it() == MW_OK);
    write_raw("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4);
    CHECK(open_it() == MW_ERR_FORMAT); /* truncated data */
    write_raw("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 12);
    CHECK(open_it() == MW_ERR_FORMAT); /* data after the last tensor */
    write_raw("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8);
    CHECK(open_it() == MW_ERR_FORMAT); /* shape and size differ */
    write_raw("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
              "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
              4);
    CHECK(open_it() == MW_ERR_FORMAT); /* overlap */
    write_raw("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[\"0\",8]}}", 8);
    CHECK(open_it() == MW_ERR_FORMAT); /* an offset that is not a number */
    write_raw("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"data_offsets\":[0,4]}}", 8);
    CHECK(open_it() == MW_ERR_FORMAT); /* two offsets */
    write_raw("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8);
    CHECK(open_it() == MW_ERR_FORMAT); /* a hole */
    write_raw("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4);
    CHECK(open_it() == MW_ERR_FORMAT);
    write_raw("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0);
    CHECK(open_it() == MW_ERR_FORMAT); /* overflow */
    write_raw("{\"a\":{\"dtype\":9,\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    CHECK(open_it() == MW_ERR_FORMAT);
    write_raw("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", 4);
    CHECK(open_it() == MW_ERR_FORMAT); /* not JSON */
    write_raw("[]", 0);
    CHECK(open_it() == MW_ERR_FORMAT);
    mw_safetensors *file = NULL;
    mw_log_quiet(true);
    CHECK_FAILS(MW_ERR_IO, mw_safetensors_open("/tmp/microw-no-such-file", &file));
    CHECK_FAILS(MW_ERR_IO, mw_safetensors_open_folder("/tmp", &file));
    mw_log_quiet(false);
}

/* Overwrites bytes of a valid file at seeded positions: any status, but no crash and no read out of bounds. */
static void random_damage(void) {
    static const char header[] =
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},\"__metadata__\":{\"k\":\"v\"}}";
    char whole[8 + sizeof header - 1 + 16];
    for (uint64_t trial = 0; trial < 3000; trial++) {
        uint64_t length = sizeof header - 1;
        memset(whole, 0, sizeof whole);
        memcpy(whole, &length, 8);
        memcpy(whole + 8, header, length);
        uint32_t r[4];
        mw_philox(11, 0, trial, r);
        for (int i = 0; i < 1 + (int)(r[3] % 3); i++) whole[r[i] % sizeof whole] = (char)(r[3] >> (8 * i));
        size_t size = trial % 5 == 0 ? r[2] % sizeof whole : sizeof whole;
        NEED_OK(mw_file_write_atomic(path, whole, size));
        mw_status status = open_it();
        CHECK(status == MW_OK || status == MW_ERR_FORMAT);
    }
}

/* A tensor of a type that this version does not know is listed, but cannot be found. */
static void unknown_types(void) {
    write_raw("{\"a\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[0,2]},"
              "\"b\":{\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
              4);
    mw_safetensors *file = NULL;
    mw_tensor t;
    NEED_OK(mw_safetensors_open(path, &file));
    CHECK(mw_safetensors_count(file) == 2 && !mw_safetensors_find(file, "a", &t));
    CHECK(strcmp(mw_safetensors_type(file, "a"), "F4") == 0 && strcmp(mw_safetensors_type(file, "b"), "I8") == 0);
    CHECK(!mw_safetensors_type(file, "c"));
    mw_safetensors_free(&file);
}

/* Of a tensor in two shards the index decides; another than the last by name needs equal bytes. */
static void tensor_in_two_shards(void) {
    char folder[] = "/tmp/microw-twice-XXXXXX", file_path[96];
    NEED(mkdtemp(folder) != NULL);
    float one[2] = {1, 2}, other[2] = {3, 4};
    const mw_named_tensor first[] = {{"a", mw_tensor_1d(MW_F32, one, 2)}, {"b", mw_tensor_1d(MW_F32, one, 2)}};
    const mw_named_tensor second[] = {{"a", mw_tensor_1d(MW_F32, other, 2)}, {"b", mw_tensor_1d(MW_F32, one, 2)}};
    snprintf(file_path, sizeof file_path, "%s/one.safetensors", folder);
    NEED_OK(mw_safetensors_write(file_path, first, 2, NULL));
    snprintf(file_path, sizeof file_path, "%s/two.safetensors", folder);
    NEED_OK(mw_safetensors_write(file_path, second, 2, NULL));
    snprintf(file_path, sizeof file_path, "%s/model.safetensors.index.json", folder);
    for (int i = 0; i < 2; i++) {
        const char *index = i ? "{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}"
                              : "{\"weight_map\":{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\"}}";
        NEED_OK(mw_file_write_atomic(file_path, index, strlen(index)));
        mw_safetensors *file = NULL;
        mw_tensor t;
        mw_log_quiet(true);
        CHECK(mw_safetensors_open_folder(folder, &file) == (i ? MW_ERR_FORMAT : MW_OK));
        mw_log_quiet(false);
        if (file) CHECK(mw_safetensors_find(file, "a", &t) && ((float *)t.data)[0] == 3);
        if (file) CHECK(mw_safetensors_count(file) == 2 && mw_safetensors_find(file, "b", &t));
        mw_safetensors_free(&file);
    }
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
}

static void shards(void) {
    char folder[] = "/tmp/microw-shards-XXXXXX", file_path[96];
    NEED(mkdtemp(folder) != NULL);
    float a[2] = {1, 2}, c[1] = {3};
    const mw_named_tensor first[] = {{"a", mw_tensor_1d(MW_F32, a, 2)}}, second[] = {{"c", mw_tensor_1d(MW_F32, c, 1)}};
    snprintf(file_path, sizeof file_path, "%s/one.safetensors", folder);
    NEED_OK(mw_safetensors_write(file_path, first, 1, NULL));
    snprintf(file_path, sizeof file_path, "%s/two.safetensors", folder);
    NEED_OK(mw_safetensors_write(file_path, second, 1, NULL));
    static const struct {
        const char *index;
        mw_status expected;
    } cases[] = {{"{\"weight_map\":{\"a\":\"one.safetensors\",\"c\":\"two.safetensors\"}}", MW_OK},
                 {"{\"weight_map\":{\"a\":\"one.safetensors\",\"x\":\"two.safetensors\"}}", MW_OK},
                 {"{\"weight_map\":{\"a\":\"../one.safetensors\"}}", MW_ERR_FORMAT},
                 {"{\"weight_map\":{\"a\":\"three.safetensors\"}}", MW_ERR_IO},
                 {"{\"weight_map\":{}}", MW_ERR_FORMAT},
                 {"{}", MW_ERR_FORMAT}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(file_path, sizeof file_path, "%s/model.safetensors.index.json", folder);
        NEED_OK(mw_file_write_atomic(file_path, cases[i].index, strlen(cases[i].index)));
        mw_safetensors *file = NULL;
        mw_log_quiet(true);
        CHECK(mw_safetensors_open_folder(folder, &file) == cases[i].expected);
        mw_log_quiet(false);
        mw_tensor t;
        if (file) CHECK(mw_safetensors_find(file, "c", &t) && ((float *)t.data)[0] == 3);
        mw_safetensors_free(&file);
    }
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
}

/* Every 8-bit float is the number that torch reads (tools/make_golden_fp8.py). */
static void floats_of_8_bits(void) {
    static const char *const kinds[] = {"e4m3", "e5m2"};
    mw_safetensors *file = NULL;
    NEED_OK(mw_safetensors_open(MICROW_GOLDEN "/fp8/values.safetensors", &file));
    for (int k = 0; k < 2; k++) {
        char name[16];
        float found[256];
        mw_tensor stored, expected;
        snprintf(name, sizeof name, "%s.f32", kinds[k]);
        NEED(mw_safetensors_find(file, kinds[k], &stored) && mw_safetensors_find(file, name, &expected));
        CHECK(stored.dtype == (k ? MW_F8_E5M2 : MW_F8_E4M3) && mw_tensor_count(&stored) == 256);
        CHECK_OK(mw_convert_to_f32(stored.dtype, stored.data, 256, found));
        for (int i = 0; i < 256; i++) {
            const float want = ((const float *)expected.data)[i];
            CHECK(isnan(want) ? isnan(found[i]) : memcmp(&want, &found[i], sizeof want) == 0); /* -0 is not 0 */
        }
    }
    mw_safetensors_free(&file);
}

int main(void) {
    int fd = mkstemp(path);
    NEED(fd >= 0);
    close(fd);
    RUN(round_trip);
    RUN(odd_headers);
    RUN(broken_files);
    RUN(random_damage);
    RUN(shards);
    RUN(unknown_types);
    RUN(tensor_in_two_shards);
    RUN(floats_of_8_bits);
    unlink(path);
    return test_end();
}
