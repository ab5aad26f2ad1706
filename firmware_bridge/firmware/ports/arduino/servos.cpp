/* Pulses for hobby servos. Without pulses most of them go limp: that is how they are switched off. */
#include "servos.h"

#include "pins.h"

#ifdef SERVOS

#ifdef ARDUINO_ARCH_ESP32
#include <ESP32Servo.h>
#else
#include <Servo.h>
#endif

static const servo servos[] = {SERVOS};
#define N_SERVOS ((uint8_t)(sizeof servos / sizeof *servos))

static Servo pulses[N_SERVOS];

static int pulse_for(const servo &s, int32_t mrad)
{
    int32_t us = s.zero_us + (int32_t)((int64_t)mrad * s.us_per_rad / 1000);
    if (us < s.shortest_us) return s.shortest_us;
    return us > s.longest_us ? s.longest_us : (int)us;
}

void begin_servos()
{
    for (uint8_t n = 0; n < N_SERVOS; n++) {
        pinMode(servos[n].pin, OUTPUT);
        digitalWrite(servos[n].pin, LOW);
    }
}

void assume_servos(fb_core *core)
{
    for (uint8_t n = 0; n < N_SERVOS; n++) {
        uint8_t axis = servos[n].axis;
        core->velocity[axis] = core->speed[axis];
        core->position[axis] = core->output[axis];
    }
}

void drive_servos(const fb_core *core)
{
    for (uint8_t n = 0; n < N_SERVOS; n++) {
        const servo &s = servos[n];
        if (core->drive[s.axis] != FB_DRIVE_ON) {
            if (pulses[n].attached()) pulses[n].detach();
            continue;
        }
        int us = pulse_for(s, core->output[s.axis]);
        if (!pulses[n].attached()) pulses[n].attach(s.pin, s.shortest_us, s.longest_us);
        pulses[n].writeMicroseconds(us);
    }
}

#endif
