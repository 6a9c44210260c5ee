/* set_schema FILE N: sets the schema number of a store. */
#include "store/h5_file.h"

#include <stdlib.h>

int main(int argc, char **argv) {
    hid_t file;
    if (argc != 3 || h5_open(argv[1], NULL, true, &file) != MW_OK) return 1;
    mw_status status = h5_put_int(file, argv[1], "schema", atoll(argv[2]));
    return H5Fclose(file) < 0 || status != MW_OK;
}
