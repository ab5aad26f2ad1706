/* The motor firmware without a machine: bytes and time go in, outputs and bytes come out.
 *
 * Nothing here allocates, blocks, uses floating point or knows a clock. now_us is the device time in microseconds; it
 * wraps every 71.6 minutes, and the core must be called at least every 35. Not reentrant: call from one context.
 */
#ifndef FB_CORE_H
#define FB_CORE_H

#include "frame.h"

#define FB_TX_BYTES 512
#define FB_ANSWERS 8

typedef struct {
    uint32_t boot_id; /* random per start */
    uint8_t reset_cause;
    uint8_t uid[12];
    uint8_t firmware[40]; /* name and version, filled up with zeros */
} fb_identity;

typedef struct {
    uint8_t seq, type, code;
    bool valid;
    uint32_t at_us;
} fb_answer;

typedef struct {
    uint32_t period_us; /* 0: not wanted */
    uint32_t sent_us;
} fb_stream;

typedef struct {
    fb_identity identity;
    uint32_t limits_crc;

    uint32_t now_us, epoch; /* epoch counts the wraps */
    uint32_t ticked_us;

    uint8_t state, reported_state, after_stop, stop_cause;
    uint32_t faults, fault_inputs;
    uint32_t random;
    uint16_t challenge;

    uint8_t session, last_session;
    uint32_t nonce;
    bool seen_seq;
    uint8_t last_seq;
    fb_answer answers[FB_ANSWERS];
    uint8_t next_answer;

    bool lease_fresh;
    uint32_t lease_expire_us;
    bool engaged_once;
    uint8_t disengaged;
    uint32_t armed_us;

    int32_t target[FB_AXES];
    bool commanded[FB_AXES];
    uint32_t valid_until_us[FB_AXES];
    uint8_t command_seq, clamped, rejected;
    uint32_t applied_us;

    int32_t output[FB_AXES]; /* mrad/s: what the motor driver has to do */
    uint32_t slew_rest[FB_AXES];

    int32_t position[FB_AXES]; /* mrad, from the encoders */
    int32_t velocity[FB_AXES]; /* mrad/s */
    int16_t current[FB_AXES];  /* mA */
    uint16_t supply_mv;
    int16_t temperature_dc;

    fb_stream state_stream, stats_stream;
    fbm_stats stats;
    fb_decoder decoder;
    uint8_t tx_seq;
    uint8_t tx[FB_TX_BYTES];
    uint16_t tx_length;
} fb_core;

void fb_init(fb_core *core, const fb_identity *identity, uint32_t now_us);

/* Bytes from the line. Answers are in tx afterwards; an ESTOP has already cut output. */
void fb_receive(fb_core *core, const uint8_t *bytes, size_t length, uint32_t now_us);

/* One control step: deadlines, slew, periodic messages. Call every millisecond or so, then apply output. */
void fb_tick(fb_core *core, uint32_t now_us);

/* The faults present at this moment (FB_FAULT_*); each latches FAULT and cuts output at once. */
void fb_set_faults(fb_core *core, uint32_t present);

/* The hardware stop button; latches like the ESTOP message. */
void fb_estop(fb_core *core);

/* Forget the first bytes of tx: they are on the line. */
void fb_sent(fb_core *core, uint16_t bytes);

#endif
