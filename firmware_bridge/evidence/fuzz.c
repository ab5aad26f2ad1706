/* libFuzzer's bytes as a sequence of operations: what breaks a property or leaves an array ends the program. */
#include <stdio.h>
#include <stdlib.h>

#include "sequence.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    outcome o = run_sequence(bytes, length);
    if (o.broken == NULL) return 0;
    fprintf(stderr, "broken: %s\n", o.broken);
    abort();
}
