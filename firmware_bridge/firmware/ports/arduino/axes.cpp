/* Every axis is a wheel or a servo. */
#include "axes.h"

#include "pins.h"
#include "servos.h"
#include "wheels.h"

void begin_axes()
{
#ifdef WHEELS
    begin_wheels();
#endif
#ifdef SERVOS
    begin_servos();
#endif
}

void measure_motion(fb_core *core, uint32_t elapsed_us)
{
#ifdef WHEELS
    measure_wheels(core, elapsed_us);
#endif
#ifdef SERVOS
    assume_servos(core);
#endif
    (void)elapsed_us;
}

void measure_currents(fb_core *core)
{
#ifdef WHEELS
    measure_wheel_currents(core);
#endif
    (void)core;
}

void drive_axes(const fb_core *core, uint32_t elapsed_us)
{
#ifdef WHEELS
    drive_wheels(core, elapsed_us);
#endif
#ifdef SERVOS
    drive_servos(core);
#endif
    (void)elapsed_us;
}
