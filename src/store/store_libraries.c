/* Version of HDF5. */
#include "microw/store.h"

#include <hdf5.h>
#include <stdio.h>

void mw_store_libraries(mw_library_callback *report, void *self) {
    unsigned major = 0, minor = 0, release = 0;
    char version[64];
    H5get_libversion(&major, &minor, &release);
#ifdef H5_HAVE_PARALLEL
    const char *kind = "parallel";
#else
    const char *kind = "not parallel";
#endif
    snprintf(version, sizeof version, "%u.%u.%u (%s)", major, minor, release, kind);
    report(self, "HDF5", version);
}
