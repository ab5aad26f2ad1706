/* An RP2040 that a test drives through ctypes: its pins, its line, its time. */
#include <Arduino.h>
#include <Servo.h>

void setup();
void loop();

static unsigned long now_us = 0xFFFF0000ul;
static uint8_t level[100];
static int duty[100], reading[100], pulse[100], fed, watchdog_ms;
static void (*on_change[100])();
static uint8_t received[4096], sent[4096];
static size_t received_length, received_at, sent_length;

unsigned long micros() { return now_us & 0xFFFFFFFFul; }
void pinMode(uint8_t, uint8_t) {}
int digitalRead(uint8_t pin) { return level[pin]; }
void digitalWrite(uint8_t pin, uint8_t to) { level[pin] = to; }
int analogRead(uint8_t pin) { return reading[pin]; }
void analogWrite(uint8_t pin, int to) { duty[pin] = to; }
void attachInterrupt(uint8_t pin, void (*act)(), int) { on_change[pin] = act; }

stub_serial Serial;
void stub_serial::begin(unsigned long) {}
int stub_serial::available() { return (int)(received_length - received_at); }
int stub_serial::read() { return received[received_at++]; }
int stub_serial::availableForWrite() { return 64; }
size_t stub_serial::write(const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) sent[sent_length++] = bytes[i];
    return length;
}

RP2040 rp2040;
RP2040::resetReason_t RP2040::getResetReason() { return UNKNOWN_RESET; }
uint32_t RP2040::hwrand32() { return 0xB0071D42u; }
void RP2040::wdt_begin(uint32_t ms) { watchdog_ms = (int)ms; }
void RP2040::wdt_reset() { fed++; }

uint8_t Servo::attach(int to, int, int) { return (uint8_t)(pin = to); }
void Servo::detach()
{
    pulse[pin] = 0;
    pin = -1;
}
void Servo::writeMicroseconds(int us) { pulse[pin] = us; }
bool Servo::attached() { return pin >= 0; }

extern "C" {
void machine_start() { setup(); }
void machine_run(int turns, int us)
{
    for (; turns > 0; turns--) {
        now_us += (unsigned long)us;
        loop();
    }
}
uint32_t machine_time() { return (uint32_t)now_us; }
void machine_set(int pin, int to) { level[pin] = (uint8_t)to; }
void machine_analog(int pin, int to) { reading[pin] = to; }
void machine_edge(int a, int b, int a_to, int b_to)
{
    level[b] = (uint8_t)b_to;
    level[a] = (uint8_t)a_to;
    on_change[a]();
}
int machine_level(int pin) { return level[pin]; }
int machine_duty(int pin) { return duty[pin]; }
int machine_pulse(int pin) { return pulse[pin]; }
int machine_fed() { return fed; }
int machine_watchdog_ms() { return watchdog_ms; }
void machine_receive(const uint8_t *bytes, int length)
{
    received_at = received_length = 0;
    for (int i = 0; i < length; i++) received[received_length++] = bytes[i];
}
int machine_take(uint8_t *out)
{
    int length = (int)sent_length;
    for (int i = 0; i < length; i++) out[i] = sent[i];
    sent_length = 0;
    return length;
}
}
