/* The firmware on a board that the Arduino tools know. Never run on hardware so far.
 *
 * python -m firmware_bridge.sketch puts this file, the core and the pins of one robot into one folder.
 */
#include "axes.h"
#include "chip.h"
#include "pins.h"

#define TICK_US 1000u
#define MEASURE_EVERY 10 /* ticks: analogRead is slow on an AVR */
#define LARGEST_READ 64  /* bytes per turn: a flooded line must not hold up the control step */

static fb_core core;
static uint32_t ticked_us;
static uint8_t ticks;

static void read_line(uint32_t now_us)
{
    uint8_t bytes[LARGEST_READ];
    size_t length = 0;
    while (length < sizeof bytes && Serial.available() > 0) bytes[length++] = (uint8_t)Serial.read();
    if (length > 0) fb_receive(&core, bytes, length, now_us);
    fb_task_ran(&core, FB_TASK_LINK);
}

static void write_line()
{
    int room = Serial.availableForWrite();
    if (room <= 0 || core.tx_length == 0) return; /* never wait: the core drops what does not fit */
    uint16_t length = (uint16_t)(room < (int32_t)core.tx_length ? room : core.tx_length);
    fb_sent(&core, (uint16_t)Serial.write(core.tx, length));
}

static void look_for_danger(uint32_t elapsed_us)
{
    if (digitalRead(STOP_PIN) == HIGH) fb_estop(&core); /* normally closed to ground: a torn wire stops, too */
    if (++ticks >= MEASURE_EVERY) {
        ticks = 0;
#ifdef SUPPLY_PIN
        core.supply_mv = (uint16_t)((uint32_t)analogRead(SUPPLY_PIN) * SUPPLY_UV_PER_COUNT / 1000u);
#endif
        measure_currents(&core);
    }
    measure_motion(&core, elapsed_us);
    fb_task_ran(&core, FB_TASK_SAFETY);
}

void setup()
{
    fb_identity identity = {};
    pinMode(STOP_PIN, INPUT_PULLUP);
    begin_axes(); /* first of all: the outputs are off */
    identify(&identity);
    Serial.begin(BAUD);
    ticked_us = micros();
    fb_init(&core, &identity, ticked_us);
    start_watchdog();
}

void loop()
{
    uint32_t now_us = micros();
    read_line(now_us);
    drive_axes(&core, 0); /* an ESTOP that has just arrived does not wait for the tick */
    uint32_t elapsed_us = now_us - ticked_us;
    if (elapsed_us < TICK_US) return;
    ticked_us = now_us;
    look_for_danger(elapsed_us);
    fb_tick(&core, now_us);
    drive_axes(&core, elapsed_us);
    fb_task_ran(&core, FB_TASK_CONTROL);
    write_line();
    if (fb_watchdog_due(&core)) feed_watchdog();
}
