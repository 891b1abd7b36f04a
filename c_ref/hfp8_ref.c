/* hfp8_ref.c: the whole reference as one translation unit. The units' shared functions are static
 * here, so they are inlined across the files and only the names of hfp8_ref.h leave the object. */
#include "rounding.c"
#include "convert.c"
#include "random.c"
#include "exact.c"
#include "mac.c"
#include "gemm.c"
#include "update.c"
#include "bitstream.c"
#include "vectors.c"
#include "handles.c"
