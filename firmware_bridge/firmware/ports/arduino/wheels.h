/* Velocity axes: a motor on an H-bridge with two direction inputs and a PWM input, and a quadrature encoder. */
#ifndef LATENTLOOP_WHEELS_H
#define LATENTLOOP_WHEELS_H

#include "axes.h"

typedef struct {
    uint8_t axis;
    uint8_t pwm, forward, backward; /* of the H-bridge */
    uint8_t a, b;                   /* of the encoder; a on a pin with an interrupt */
    int16_t current;                /* analog pin, or NO_PIN */
} wheel;

void begin_wheels();
void measure_wheels(fb_core *core, uint32_t elapsed_us);
void measure_wheel_currents(fb_core *core);
void drive_wheels(const fb_core *core, uint32_t elapsed_us);

#endif
