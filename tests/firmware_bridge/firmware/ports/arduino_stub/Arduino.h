/* As much of the Arduino interface as the port uses. On a PC the pins are numbers that a test reads and sets. */
#ifndef STUB_ARDUINO_H
#define STUB_ARDUINO_H

#include <stddef.h>
#include <stdint.h>

#define HIGH 1
#define LOW 0
#define INPUT_PULLUP 2
#define OUTPUT 1
#define CHANGE 1
enum { A0 = 54, A1, A2, A3 };
enum { PA0 = 70, PA1, PA2, PA3, PA4, PA5, PA6, PA7, PA8, PA9, PB0, PB1, PB4, PB5, PB6, PB7, PB9, PB10, PB12 };

unsigned long micros();
void pinMode(uint8_t pin, uint8_t mode);
int digitalRead(uint8_t pin);
void digitalWrite(uint8_t pin, uint8_t level);
int analogRead(uint8_t pin);
void analogWrite(uint8_t pin, int duty);
void attachInterrupt(uint8_t interrupt, void (*act)(), int edge);
#define digitalPinToInterrupt(pin) (pin)
inline void noInterrupts() {}
inline void interrupts() {}

struct stub_serial {
    void begin(unsigned long baud);
    int available();
    int read();
    int availableForWrite();
    size_t write(const uint8_t *bytes, size_t length);
};
extern stub_serial Serial;

#ifdef ARDUINO_ARCH_RP2040
struct RP2040 {
    enum resetReason_t { UNKNOWN_RESET, WDT_RESET };
    resetReason_t getResetReason();
    uint32_t hwrand32();
    void wdt_begin(uint32_t ms);
    void wdt_reset();
};
extern RP2040 rp2040;
#endif

#endif
