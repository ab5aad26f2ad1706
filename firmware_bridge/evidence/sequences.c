/* Random sequences: sequences COUNT SEED. Prints how many moved, how many stopped in motion, and the first that broke
 * a property, with its number; ends then. */
#include <stdio.h>
#include <stdlib.h>

#include "random.h"
#include "sequence.h"

int main(int count, char **given)
{
    if (count != 3) return 2;
    uint64_t sequences = strtoull(given[1], NULL, 10), seed = strtoull(given[2], NULL, 10);
    uint64_t moved = 0, stopped = 0;
    for (uint64_t n = 0; n < sequences; n++) {
        static uint8_t bytes[1024];
        uint64_t random = seed << 40 ^ n;
        for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(draw64(&random) >> 56);
        outcome o = run_sequence(bytes, sizeof bytes);
        if (o.broken != NULL) {
            printf("{\"sequences\": %llu, \"moved\": %llu, \"stopped\": %llu, \"broken\": \"%s\"}\n",
                   (unsigned long long)(n + 1), (unsigned long long)moved, (unsigned long long)stopped, o.broken);
            return 1;
        }
        moved += o.moving > 0;
        stopped += o.stops > 0;
    }
    printf("{\"sequences\": %llu, \"moved\": %llu, \"stopped\": %llu, \"broken\": null}\n",
           (unsigned long long)sequences, (unsigned long long)moved, (unsigned long long)stopped);
    return 0;
}
