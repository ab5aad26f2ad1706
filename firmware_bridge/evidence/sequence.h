/* A sequence of operations and faults, spelled by bytes, against the core, with the safety properties checked throughout. */
#ifndef SEQUENCE_H
#define SEQUENCE_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *broken; /* the property, or NULL */
    uint32_t moving, stops; /* ticks in which something moved; stops asked for while armed */
} outcome;

/* Any bytes mean something. Ends at the first property that does not hold. */
outcome run_sequence(const uint8_t *bytes, size_t length);

#endif
