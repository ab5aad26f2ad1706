/* Position axes: hobby servos, which go where the pulse says and tell nothing. */
#ifndef LATENTLOOP_SERVOS_H
#define LATENTLOOP_SERVOS_H

#include "axes.h"

typedef struct {
    uint8_t axis, pin;
    uint16_t zero_us;             /* pulse at 0 rad */
    int16_t us_per_rad;           /* negative: turns the other way */
    uint16_t shortest_us, longest_us;
} servo;

void begin_servos();
void assume_servos(fb_core *core);
void drive_servos(const fb_core *core);

#endif
