/* RP2040 (arduino-pico), ESP32 (core 3), STM32 (stm32duino) and AVR. */
#include "chip.h"

#include "pins.h"

#define WATCHDOG_MS 50u
#define WATCHDOG_RESET 1 /* as in HELLO_ACK */

#if defined(ARDUINO_ARCH_RP2040)

static bool watchdog_bit() { return rp2040.getResetReason() == RP2040::WDT_RESET; }
static uint32_t fresh_number() { return rp2040.hwrand32(); }
void start_watchdog() { rp2040.wdt_begin(WATCHDOG_MS); }
void feed_watchdog() { rp2040.wdt_reset(); }

#elif defined(ARDUINO_ARCH_ESP32)
#include <esp_random.h>
#include <esp_system.h>
#include <esp_task_wdt.h>

static bool watchdog_bit()
{
    esp_reset_reason_t why = esp_reset_reason();
    return why == ESP_RST_TASK_WDT || why == ESP_RST_INT_WDT || why == ESP_RST_WDT;
}
static uint32_t fresh_number() { return esp_random(); }
void start_watchdog()
{
    esp_task_wdt_config_t config = {};
    config.timeout_ms = WATCHDOG_MS;
    config.trigger_panic = true; /* a reset, not a message */
    esp_task_wdt_reconfigure(&config);
    esp_task_wdt_add(NULL);
}
void feed_watchdog() { esp_task_wdt_reset(); }

#else

/* No source of random numbers: the noise of an open analog pin, and how long its readings took. */
static uint32_t fresh_number()
{
    uint32_t number = 0;
    for (uint8_t i = 0; i < 64; i++) {
        uint32_t sample = ((uint32_t)analogRead(NOISE_PIN) << 16) ^ micros();
        number = fb_crc32(number, (const uint8_t *)&sample, sizeof sample);
    }
    return number;
}

#if defined(ARDUINO_ARCH_STM32)
#include <IWatchdog.h>

static bool watchdog_bit() { return IWatchdog.isReset(true); }
void start_watchdog() { IWatchdog.begin(WATCHDOG_MS * 1000u); }
void feed_watchdog() { IWatchdog.reload(); }

#elif defined(__AVR__)
#include <avr/io.h>
#include <avr/wdt.h>

static bool watchdog_bit() /* a boot loader may have cleared it already: docs/flashing.md */
{
    bool was = (MCUSR & _BV(WDRF)) != 0;
    MCUSR = 0;
    wdt_disable();
    return was;
}
void start_watchdog() { wdt_enable(WDTO_60MS); }
void feed_watchdog() { wdt_reset(); }

#else
#error "this chip has no watchdog here: add it to chip.cpp"
#endif
#endif

void identify(fb_identity *identity)
{
    static const char name[] = "latentloop-arduino 0.1";
    for (uint8_t i = 0; i < sizeof name - 1; i++) identity->firmware[i] = (uint8_t)name[i];
    identity->reset_cause = watchdog_bit() ? WATCHDOG_RESET : 0;
    identity->boot_id = fresh_number();
}
