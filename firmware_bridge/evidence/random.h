/* Repeatable random numbers: SplitMix64, Steele, Lea and Flood 2014. */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdint.h>

static inline uint64_t draw64(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static inline uint32_t below(uint64_t *state, uint32_t end)
{
    return (uint32_t)((draw64(state) >> 32) * end >> 32);
}

#endif
