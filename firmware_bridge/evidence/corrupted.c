/* Damaged frames through the decoder: corrupted FRAMES SEED. Prints per kind of damage how many were sent and accepted,
 * and how many undamaged ones in between were not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "random.h"

enum { FLIPS, TRUNCATION, HOLE, MERGE, KINDS };
static const char *const kind_name[KINDS] = {"flips", "truncations", "holes", "merges"};

/* Half of the payloads are mostly zeros: there COBS has the most code bytes, and a wrong one shifts the most. */
static size_t any_frame(uint64_t *random, uint8_t *wire)
{
    fb_frame frame = {.flags = below(random, 4) == 0 ? FB_ACK_REQ : 0};
    bool zeros = below(random, 2) == 0;
    frame.type = (uint8_t)below(random, 256);
    frame.seq = (uint8_t)below(random, 256);
    frame.session = zeros ? 0 : (uint8_t)below(random, 256);
    frame.length = (uint8_t)below(random, FB_MAX_PAYLOAD + 1);
    for (uint8_t i = 0; i < frame.length; i++)
        frame.payload[i] = zeros && below(random, 8) != 0 ? 0 : (uint8_t)below(random, 256);
    return fb_encode(&frame, FB_SCHEMA_ID, wire);
}

static size_t flip(uint64_t *random, uint8_t *wire, size_t length)
{
    uint32_t at[6], flips = 1 + below(random, 6);
    for (uint32_t k = 0; k < flips; k++) {
        bool fresh;
        do { /* the same bit twice would be no damage */
            at[k] = below(random, (uint32_t)length * 8);
            fresh = true;
            for (uint32_t j = 0; j < k; j++) fresh = fresh && at[j] != at[k];
        } while (!fresh);
        wire[at[k] / 8] ^= (uint8_t)(1u << at[k] % 8);
    }
    return length;
}

/* At least one byte between the delimiters is lost. */
static size_t cut(uint64_t *random, uint8_t *wire, size_t length, bool tail)
{
    size_t inside = length - 2, from = 1 + below(random, (uint32_t)inside);
    size_t lost = tail ? length - from : 1 + below(random, (uint32_t)(length - 1 - from));
    memmove(wire + from, wire + from + lost, length - from - lost);
    return length - lost;
}

/* The delimiters between two frames are lost, often with bytes beside them. What is left must not be one of the two. */
static size_t merge(uint64_t *random, uint8_t *wire, size_t length)
{
    uint8_t first[FB_MAX_WIRE], second[FB_MAX_WIRE];
    memcpy(first, wire, length);
    for (;;) {
        size_t more = any_frame(random, second), start = 1, kept = length - 1;
        if (below(random, 2) == 0) {
            kept = 2 + below(random, (uint32_t)length - 2);
            start = 1 + below(random, (uint32_t)more - 2);
        }
        memcpy(wire, first, kept);
        memcpy(wire + kept, second + start, more - start);
        size_t merged = kept + more - start;
        bool as_first = merged == length && memcmp(wire, first, length) == 0;
        bool as_second = merged == more && memcmp(wire, second, more) == 0;
        if (!as_first && !as_second) return merged;
    }
}

int main(int count, char **given)
{
    if (count != 3) return 2;
    uint64_t frames = strtoull(given[1], NULL, 10), random = strtoull(given[2], NULL, 10);
    uint64_t sent[KINDS] = {0}, accepted[KINDS] = {0}, whole = 0, refused = 0;
    fb_decoder decoder = {.length = 0};
    fb_frame frame;
    for (uint64_t n = 0; n < frames; n++) {
        uint8_t wire[2 * FB_MAX_WIRE + 1];
        size_t length = any_frame(&random, wire);
        if (n % 16 == 0) { /* so that a decoder which accepts nothing does not pass */
            bool seen = false;
            for (size_t i = 0; i < length; i++)
                seen = fb_decode(&decoder, wire[i], FB_SCHEMA_ID, &frame) == FB_DECODE_FRAME || seen;
            whole++;
            refused += !seen;
        }
        uint32_t draw = below(&random, 8);
        int kind = draw < 5 ? FLIPS : draw == 5 ? TRUNCATION : draw == 6 ? HOLE : MERGE;
        if (kind == FLIPS) length = flip(&random, wire, length);
        else if (kind == MERGE) length = merge(&random, wire, length);
        else length = cut(&random, wire, length, kind == TRUNCATION);
        wire[length++] = 0;
        sent[kind]++;
        for (size_t i = 0; i < length; i++)
            accepted[kind] += fb_decode(&decoder, wire[i], FB_SCHEMA_ID, &frame) == FB_DECODE_FRAME;
    }
    printf("{\"whole\": [%llu, %llu]", (unsigned long long)whole, (unsigned long long)refused);
    for (int k = 0; k < KINDS; k++)
        printf(", \"%s\": [%llu, %llu]", kind_name[k], (unsigned long long)sent[k], (unsigned long long)accepted[k]);
    puts("}");
    return 0;
}
