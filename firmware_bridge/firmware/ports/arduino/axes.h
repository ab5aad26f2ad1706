/* What turns: wheels on H-bridges with encoders, and hobby servos. pins.h says which are there. */
#ifndef LATENTLOOP_AXES_H
#define LATENTLOOP_AXES_H

#include <Arduino.h>

extern "C" {
#include "core.h"
}

void begin_axes();
void measure_motion(fb_core *core, uint32_t elapsed_us); /* into position and velocity */
void measure_currents(fb_core *core);
void drive_axes(const fb_core *core, uint32_t elapsed_us); /* output and drive onto the pins */

#endif
