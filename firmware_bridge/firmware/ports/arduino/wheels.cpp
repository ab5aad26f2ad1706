/* Turning wheels at the speed that the core wants: a feed-forward duty cycle, corrected by the encoder. */
#include "wheels.h"

#include "pins.h"

#ifdef WHEELS

#define FULL_DUTY 255
#define URAD_PER_TURN 6283185
#define SPEED_OVER_US 10000u /* counts of this long make a speed */

static const wheel wheels[] = {WHEELS};
#define N_WHEELS ((uint8_t)(sizeof wheels / sizeof *wheels))

static volatile int32_t counts[N_WHEELS];
static int32_t counted[N_WHEELS];
static int64_t correction[N_WHEELS]; /* nrad: how far the wheel is behind */
static uint32_t window_us;

template <uint8_t N> static void on_edge()
{
    bool same = digitalRead(wheels[N].a) == digitalRead(wheels[N].b);
    counts[N] = counts[N] + (same ? -1 : 1);
}

/* attachInterrupt takes a function without an argument: one for each wheel. */
template <uint8_t N> struct edges {
    static void attach()
    {
        edges<N - 1>::attach();
        attachInterrupt(digitalPinToInterrupt(wheels[N - 1].a), on_edge<N - 1>, CHANGE);
    }
};
template <> struct edges<0> {
    static void attach() {}
};

static int32_t count_of(uint8_t n)
{
    noInterrupts(); /* 32 bits are four reads on an AVR */
    int32_t count = counts[n];
    interrupts();
    return count;
}

static void turn(const wheel &w, int16_t duty)
{
    digitalWrite(w.forward, duty > 0 ? HIGH : LOW);
    digitalWrite(w.backward, duty < 0 ? HIGH : LOW);
    analogWrite(w.pwm, duty < 0 ? -duty : duty);
}

static void brake(const wheel &w)
{
    digitalWrite(w.forward, HIGH);
    digitalWrite(w.backward, HIGH);
    analogWrite(w.pwm, FULL_DUTY);
}

void begin_wheels()
{
    for (uint8_t n = 0; n < N_WHEELS; n++) {
        const wheel &w = wheels[n];
        pinMode(w.pwm, OUTPUT);
        pinMode(w.forward, OUTPUT);
        pinMode(w.backward, OUTPUT);
        pinMode(w.a, INPUT_PULLUP);
        pinMode(w.b, INPUT_PULLUP);
        turn(w, 0);
    }
    edges<N_WHEELS>::attach();
}

void measure_wheels(fb_core *core, uint32_t elapsed_us)
{
    window_us += elapsed_us;
    bool whole = window_us >= SPEED_OVER_US;
    for (uint8_t n = 0; n < N_WHEELS; n++) {
        uint8_t axis = wheels[n].axis;
        int32_t count = count_of(n);
        core->position[axis] = (int32_t)((int64_t)count * URAD_PER_TURN / (1000L * COUNTS_PER_TURN));
        if (!whole) continue;
        int64_t urad = (int64_t)(int32_t)((uint32_t)count - (uint32_t)counted[n]) * URAD_PER_TURN / COUNTS_PER_TURN;
        core->velocity[axis] = (int32_t)(urad * 1000 / (int32_t)window_us);
        counted[n] = count;
    }
    if (whole) window_us = 0;
}

void measure_wheel_currents(fb_core *core)
{
    for (uint8_t n = 0; n < N_WHEELS; n++) {
        if (wheels[n].current == NO_PIN) continue;
        core->current[wheels[n].axis] = (int16_t)((int32_t)analogRead((uint8_t)wheels[n].current) * CURRENT_UA_PER_COUNT / 1000);
    }
}

static int16_t duty_for(const fb_core *core, uint8_t n, uint32_t elapsed_us)
{
    int32_t wanted = core->output[wheels[n].axis];
    int64_t most = (int64_t)FULL_DUTY * NRAD_PER_DUTY;
    correction[n] += (int64_t)(wanted - core->velocity[wheels[n].axis]) * elapsed_us;
    if (correction[n] > most) correction[n] = most;
    if (correction[n] < -most) correction[n] = -most;
    int32_t duty = (int32_t)((int64_t)wanted * FULL_DUTY / FULL_SPEED + correction[n] / NRAD_PER_DUTY);
    if (duty > FULL_DUTY) duty = FULL_DUTY;
    if (duty < -FULL_DUTY) duty = -FULL_DUTY;
    return (int16_t)duty;
}

void drive_wheels(const fb_core *core, uint32_t elapsed_us)
{
    for (uint8_t n = 0; n < N_WHEELS; n++) {
        uint8_t axis = wheels[n].axis;
        if (core->drive[axis] == FB_DRIVE_ON && core->output[axis] != 0) {
            if (elapsed_us > 0) turn(wheels[n], duty_for(core, n, elapsed_us));
            continue;
        }
        correction[n] = 0; /* what was missing before a stop must not move the wheel after it */
        if (core->drive[axis] == FB_DRIVE_OFF) turn(wheels[n], 0);
        else brake(wheels[n]);
    }
}

#endif
