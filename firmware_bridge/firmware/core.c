#include "core.h"

#define STATE_ROOM 160 /* periodic messages leave this much of tx to answers */
#define ANSWER_LIFE_US 1000000u
#define MIN_PERIOD_MS 5

static const uint32_t max_speed[FB_AXES] = FB_MAX_SPEED;
static const uint32_t max_acceleration[FB_AXES] = FB_MAX_ACCELERATION;
static const char axis_name[FB_AXES][16] = FB_AXIS_NAMES;

static void clear(void *memory, size_t size)
{
    uint8_t *bytes = memory;
    while (size--) *bytes++ = 0;
}

static bool passed(uint32_t now_us, uint32_t deadline_us)
{
    return (int32_t)(now_us - deadline_us) >= 0;
}

static bool latched(const fb_core *c)
{
    return c->state == FB_STATE_ESTOP || c->state == FB_STATE_FAULT;
}

/* -- leaving motion ---------------------------------------------------------------------------------------------- */

static void forget_targets(fb_core *c)
{
    for (int i = 0; i < FB_AXES; i++) {
        c->target[i] = 0;
        c->commanded[i] = false;
    }
}

static void ramp_down(fb_core *c, uint8_t cause)
{
    c->after_stop = cause == FB_STOP_CAUSE_DISARMED || cause == FB_STOP_CAUSE_NEW_SESSION ? FB_STATE_LINKED : FB_STATE_SAFE;
    c->state = FB_STATE_SAFE_STOP;
    c->stop_cause = cause;
    if (cause != FB_STOP_CAUSE_DISARMED) c->stats.trips++;
    forget_targets(c);
}

static void cut(fb_core *c, uint8_t state, uint8_t cause)
{
    c->state = state;
    c->stop_cause = cause;
    c->stats.trips++;
    forget_targets(c);
    for (int i = 0; i < FB_AXES; i++) {
        c->output[i] = 0;
        c->slew_rest[i] = 0;
    }
    do { /* xorshift32, Marsaglia 2003 */
        c->random ^= c->random << 13;
        c->random ^= c->random >> 17;
        c->random ^= c->random << 5;
        c->challenge = (uint16_t)c->random;
    } while (c->challenge == 0);
}

void fb_estop(fb_core *c)
{
    if (c->state != FB_STATE_ESTOP) cut(c, FB_STATE_ESTOP, FB_STOP_CAUSE_ESTOP);
}

void fb_set_faults(fb_core *c, uint32_t present)
{
    c->fault_inputs = present;
    c->faults |= present;
    if (present != 0 && !latched(c)) cut(c, FB_STATE_FAULT, FB_STOP_CAUSE_FAULT);
}

/* -- time -------------------------------------------------------------------------------------------------------- */

static void advance(fb_core *c, uint32_t now_us)
{
    if (now_us < c->now_us) c->epoch++;
    c->now_us = now_us;
    if (c->lease_fresh && passed(now_us, c->lease_expire_us)) {
        c->lease_fresh = false;
        if (c->state == FB_STATE_ACTIVE) ramp_down(c, FB_STOP_CAUSE_LEASE_EXPIRED);
    }
    for (int i = 0; i < FB_AXES; i++) {
        if (c->state == FB_STATE_ACTIVE && c->commanded[i] && passed(now_us, c->valid_until_us[i]))
            ramp_down(c, FB_STOP_CAUSE_COMMAND_EXPIRED);
    }
    if (c->state == FB_STATE_ACTIVE && !c->engaged_once && passed(now_us, c->armed_us + FB_ENGAGE_WITHIN_US))
        ramp_down(c, FB_STOP_CAUSE_DISENGAGED);
}

static void slew(fb_core *c, uint32_t elapsed_us)
{
    if (elapsed_us > FB_MAX_TICK_US) elapsed_us = FB_MAX_TICK_US;
    for (int i = 0; i < FB_AXES; i++) {
        int64_t missing = (int64_t)c->target[i] - c->output[i];
        uint64_t budget = (uint64_t)max_acceleration[i] * elapsed_us + c->slew_rest[i];
        int64_t step = (int64_t)(budget / 1000000u);
        if (missing <= step && missing >= -step) {
            c->output[i] = c->target[i];
            c->slew_rest[i] = 0;
        } else {
            c->output[i] += (int32_t)(missing > 0 ? step : -step);
            c->slew_rest[i] = (uint32_t)(budget % 1000000u);
        }
    }
}

/* -- sending ----------------------------------------------------------------------------------------------------- */

static void send(fb_core *c, uint8_t type, uint8_t session, uint8_t flags, fb_frame *frame, uint8_t length, size_t room)
{
    uint8_t wire[FB_MAX_WIRE];
    frame->type = type;
    frame->session = session;
    frame->flags = flags;
    frame->length = length;
    frame->seq = c->tx_seq++;
    size_t size = fb_encode(frame, FB_SCHEMA_ID, wire);
    if (c->tx_length + size + room > FB_TX_BYTES) {
        c->stats.tx_dropped++;
        return;
    }
    for (size_t i = 0; i < size; i++) c->tx[c->tx_length++] = wire[i];
}

static void send_ack(fb_core *c, const fb_frame *asked, uint8_t session, uint8_t code)
{
    fb_frame frame;
    fbm_ack ack = {.answered_seq = asked->seq, .answered_type = asked->type, .code = code};
    fbm_ack_pack(&ack, frame.payload);
    send(c, FB_TYPE_ACK, session, FB_REPLY, &frame, FB_SIZE_ACK, 0);
}

static void send_hello_ack(fb_core *c, const fb_frame *asked)
{
    fb_frame frame;
    fbm_hello_ack m = {
        .answered_seq = asked->seq,
        .version = FB_VERSION,
        .session = c->session,
        .axes = FB_AXES,
        .nonce = c->nonce,
        .boot_id = c->identity.boot_id,
        .schema_id = FB_SCHEMA_ID,
        .limits_crc = c->limits_crc,
        .lease_cap_us = FB_LEASE_CAP_US,
        .reset_cause = c->identity.reset_cause,
        .max_body = FB_MAX_BODY,
        .commit_us = FB_COMMIT_US,
    };
    for (size_t i = 0; i < sizeof m.uid; i++) m.uid[i] = c->identity.uid[i];
    for (size_t i = 0; i < sizeof m.firmware; i++) m.firmware[i] = c->identity.firmware[i];
    fbm_hello_ack_pack(&m, frame.payload);
    send(c, FB_TYPE_HELLO_ACK, 0, FB_REPLY, &frame, FB_SIZE_HELLO_ACK, 0);
}

static void send_state(fb_core *c)
{
    fb_frame frame;
    fbm_state m = {
        .t_us = c->now_us,
        .state = c->state,
        .stop_cause = c->stop_cause,
        .faults = c->faults,
        .last_seq = c->command_seq,
        .clamped = c->clamped,
        .applied_us = c->applied_us,
        .queue_ms = 0,
        .supply_mv = c->supply_mv,
        .temperature_dc = c->temperature_dc,
        .challenge = c->challenge,
    };
    for (int i = 0; i < FB_AXES; i++) {
        m.position[i] = c->position[i];
        m.velocity[i] = c->velocity[i];
        m.current[i] = c->current[i];
    }
    fbm_state_pack(&m, frame.payload);
    send(c, FB_TYPE_STATE, c->session, 0, &frame, FB_SIZE_STATE, STATE_ROOM);
    c->reported_state = c->state;
}

static void send_stats(fb_core *c)
{
    fb_frame frame;
    fbm_stats_pack(&c->stats, frame.payload);
    send(c, FB_TYPE_STATS, c->session, 0, &frame, FB_SIZE_STATS, STATE_ROOM);
}

static void pack_axis(uint8_t index, uint8_t *payload)
{
    fbm_axis m = {
        .axis = index,
        .mode = FB_MODE_VELOCITY,
        .max_speed = max_speed[index],
        .max_acceleration = max_acceleration[index],
    };
    for (size_t i = 0; i < sizeof m.name; i++) m.name[i] = (uint8_t)axis_name[index][i];
    fbm_axis_pack(&m, payload);
}

static bool due(fb_stream *stream, uint32_t now_us)
{
    if (stream->period_us == 0 || now_us - stream->sent_us < stream->period_us) return false;
    stream->sent_us += stream->period_us;
    if (now_us - stream->sent_us >= stream->period_us) stream->sent_us = now_us; /* behind: do not catch up in a burst */
    return true;
}

/* -- messages ---------------------------------------------------------------------------------------------------- */

static uint8_t on_hello(fb_core *c, const fb_frame *frame)
{
    fbm_hello m;
    if (frame->length != FB_SIZE_HELLO) return FB_CODE_BAD_PAYLOAD;
    fbm_hello_unpack(&m, frame->payload);
    if (m.magic != FB_MAGIC) return FB_CODE_BAD_PAYLOAD;
    if (m.min_version > FB_VERSION || m.max_version < FB_VERSION) return FB_CODE_BAD_VERSION;
    if (c->session == 0 || c->nonce != m.nonce || c->state == FB_STATE_IDLE) {
        c->nonce = m.nonce;
        if (++c->last_session == 0) c->last_session = 1;
        c->session = c->last_session;
        c->lease_fresh = false;
        c->applied_us = 0;
        c->command_seq = 0;
        c->clamped = 0;
        c->state_stream.period_us = 0;
        c->stats_stream.period_us = 0;
        clear(c->answers, sizeof c->answers);
        if (c->state == FB_STATE_ACTIVE) ramp_down(c, FB_STOP_CAUSE_NEW_SESSION);
        else if (c->state == FB_STATE_SAFE_STOP) c->after_stop = FB_STATE_LINKED;
        else if (!latched(c)) c->state = FB_STATE_LINKED;
    }
    c->last_seq = frame->seq;
    c->seen_seq = true;
    send_hello_ack(c, frame);
    return FB_CODE_OK;
}

static uint8_t on_time_req(fb_core *c, const fb_frame *frame)
{
    fbm_time_req m;
    fb_frame answer;
    if (frame->length != FB_SIZE_TIME_REQ) return FB_CODE_BAD_PAYLOAD;
    fbm_time_req_unpack(&m, frame->payload);
    uint64_t now = ((uint64_t)c->epoch << 32) | c->now_us;
    fbm_time_rsp r = {.t_host_ns = m.t_host_ns, .t_rx_us = now, .t_tx_us = now};
    fbm_time_rsp_pack(&r, answer.payload);
    send(c, FB_TYPE_TIME_RSP, c->session, FB_REPLY, &answer, FB_SIZE_TIME_RSP, 0);
    return FB_CODE_OK;
}

/* LATE and TOO_EARLY are what a wrong idea of device time looks like from here. */
static uint8_t judge_deadline(fb_core *c, uint32_t deadline_us)
{
    int32_t left = (int32_t)(deadline_us - c->now_us);
    if (left <= 0) {
        c->stats.late++;
        return FB_CODE_LATE;
    }
    return left > FB_HORIZON_US ? FB_CODE_TOO_EARLY : FB_CODE_OK;
}

static uint8_t on_lease(fb_core *c, const fb_frame *frame)
{
    fbm_lease m;
    if (frame->length != FB_SIZE_LEASE) return FB_CODE_BAD_PAYLOAD;
    fbm_lease_unpack(&m, frame->payload);
    uint8_t code = judge_deadline(c, m.expire_us);
    if (code == FB_CODE_TOO_EARLY) c->stats.rejects++;
    if (code != FB_CODE_OK) return code;
    if (m.expire_us - c->now_us > FB_LEASE_CAP_US) {
        m.expire_us = c->now_us + FB_LEASE_CAP_US;
        c->stats.clamps++;
    }
    c->lease_fresh = true;
    c->lease_expire_us = m.expire_us;
    c->stats.leases++;
    if (m.engaged != 0) {
        c->engaged_once = true;
        c->disengaged = 0;
    } else if (c->state == FB_STATE_ACTIVE && c->engaged_once && ++c->disengaged >= FB_DISENGAGED_LEASES) {
        ramp_down(c, FB_STOP_CAUSE_DISENGAGED);
    }
    return FB_CODE_OK;
}

static uint8_t on_arm(fb_core *c, const fb_frame *frame)
{
    fbm_arm m;
    if (frame->length != FB_SIZE_ARM) return FB_CODE_BAD_PAYLOAD;
    fbm_arm_unpack(&m, frame->payload);
    if (latched(c)) return FB_CODE_LATCHED;
    if (c->state != FB_STATE_LINKED && c->state != FB_STATE_SAFE) return FB_CODE_BAD_STATE;
    if (m.boot_id != c->identity.boot_id) return FB_CODE_WRONG_BOOT;
    if (m.limits_crc != c->limits_crc) return FB_CODE_WRONG_LIMITS;
    if (!c->lease_fresh) return FB_CODE_NO_LEASE;
    c->state = FB_STATE_ACTIVE;
    c->stop_cause = FB_STOP_CAUSE_NONE;
    c->armed_us = c->now_us;
    c->engaged_once = false;
    c->disengaged = 0;
    c->rejected = 0;
    return FB_CODE_OK;
}

static uint8_t on_disarm(fb_core *c, const fb_frame *frame)
{
    if (frame->length != FB_SIZE_DISARM) return FB_CODE_BAD_PAYLOAD;
    if (c->state == FB_STATE_ACTIVE) ramp_down(c, FB_STOP_CAUSE_DISARMED);
    else if (c->state == FB_STATE_SAFE) c->state = FB_STATE_LINKED;
    return FB_CODE_OK;
}

static uint8_t on_estop(fb_core *c, const fb_frame *frame)
{
    (void)frame; /* a stop is a stop, whatever its payload says */
    fb_estop(c);
    return FB_CODE_OK;
}

static uint8_t on_estop_clear(fb_core *c, const fb_frame *frame)
{
    fbm_estop_clear m;
    if (frame->length != FB_SIZE_ESTOP_CLEAR) return FB_CODE_BAD_PAYLOAD;
    fbm_estop_clear_unpack(&m, frame->payload);
    if (!latched(c)) return FB_CODE_BAD_STATE;
    if (m.challenge != c->challenge) return FB_CODE_WRONG_CHALLENGE;
    if (c->fault_inputs != 0) return FB_CODE_LATCHED;
    c->faults = 0;
    c->challenge = 0;
    c->state = FB_STATE_IDLE;
    return FB_CODE_OK;
}

static uint8_t judge_command(fb_core *c, const fbm_set_now *m)
{
    if (m->mode != FB_MODE_VELOCITY) return FB_CODE_BAD_MODE;
    if (m->mask == 0 || m->mask >> FB_AXES != 0) return FB_CODE_BAD_AXIS;
    return judge_deadline(c, m->valid_until_us);
}

static uint8_t on_set_now(fb_core *c, const fb_frame *frame)
{
    fbm_set_now m;
    uint8_t code = FB_CODE_BAD_PAYLOAD;
    if (latched(c)) return FB_CODE_LATCHED;
    if (c->state != FB_STATE_ACTIVE) return FB_CODE_BAD_STATE;
    if (frame->length == FB_SIZE_SET_NOW) {
        fbm_set_now_unpack(&m, frame->payload);
        code = judge_command(c, &m);
    }
    if (code == FB_CODE_LATE) return code;
    if (code != FB_CODE_OK) {
        c->stats.rejects++;
        if (++c->rejected >= FB_REJECT_LIMIT) ramp_down(c, FB_STOP_CAUSE_REJECTED_COMMANDS);
        return code;
    }
    c->rejected = 0;
    c->clamped = 0;
    for (int i = 0; i < FB_AXES; i++) {
        if ((m.mask >> i & 1) == 0) continue;
        int32_t limit = (int32_t)max_speed[i];
        if (m.target[i] > limit || m.target[i] < -limit) {
            c->clamped |= (uint8_t)(1 << i);
            m.target[i] = m.target[i] > 0 ? limit : -limit;
        }
        c->target[i] = m.target[i];
        c->commanded[i] = true;
        c->valid_until_us[i] = m.valid_until_us;
    }
    if (c->clamped != 0) c->stats.clamps++;
    c->command_seq = frame->seq;
    c->applied_us = c->now_us != 0 ? c->now_us : 1;
    return FB_CODE_OK;
}

static uint8_t on_axis_get(fb_core *c, const fb_frame *frame)
{
    fbm_axis_get m;
    fb_frame answer;
    if (frame->length != FB_SIZE_AXIS_GET) return FB_CODE_BAD_PAYLOAD;
    fbm_axis_get_unpack(&m, frame->payload);
    if (m.axis >= FB_AXES) return FB_CODE_BAD_AXIS;
    pack_axis(m.axis, answer.payload);
    send(c, FB_TYPE_AXIS, c->session, FB_REPLY, &answer, FB_SIZE_AXIS, 0);
    return FB_CODE_OK;
}

static uint8_t on_subscribe(fb_core *c, const fb_frame *frame)
{
    fbm_subscribe m;
    if (frame->length != FB_SIZE_SUBSCRIBE) return FB_CODE_BAD_PAYLOAD;
    fbm_subscribe_unpack(&m, frame->payload);
    if (m.stream != FB_TYPE_STATE && m.stream != FB_TYPE_STATS) return FB_CODE_BAD_STREAM;
    if (m.period_ms != 0 && m.period_ms < MIN_PERIOD_MS) return FB_CODE_BAD_PAYLOAD;
    fb_stream *stream = m.stream == FB_TYPE_STATE ? &c->state_stream : &c->stats_stream;
    stream->period_us = (uint32_t)m.period_ms * 1000;
    stream->sent_us = c->now_us - stream->period_us; /* the first one is due at once */
    return FB_CODE_OK;
}

static uint8_t on_ping(fb_core *c, const fb_frame *frame)
{
    (void)c;
    return frame->length == FB_SIZE_PING ? FB_CODE_OK : FB_CODE_BAD_PAYLOAD;
}

typedef struct {
    uint8_t type;
    bool sessionless;
    uint8_t (*act)(fb_core *c, const fb_frame *frame);
} handler;

static const handler handlers[] = {
    {FB_TYPE_HELLO, true, on_hello},
    {FB_TYPE_TIME_REQ, false, on_time_req},
    {FB_TYPE_LEASE, false, on_lease},
    {FB_TYPE_ARM, false, on_arm},
    {FB_TYPE_DISARM, false, on_disarm},
    {FB_TYPE_ESTOP, true, on_estop},
    {FB_TYPE_ESTOP_CLEAR, false, on_estop_clear},
    {FB_TYPE_SET_NOW, false, on_set_now},
    {FB_TYPE_AXIS_GET, false, on_axis_get},
    {FB_TYPE_SUBSCRIBE, false, on_subscribe},
    {FB_TYPE_PING, true, on_ping},
};

static fb_answer *remembered(fb_core *c, const fb_frame *frame)
{
    for (int i = 0; i < FB_ANSWERS; i++) {
        fb_answer *a = &c->answers[i];
        if (a->valid && c->now_us - a->at_us >= ANSWER_LIFE_US) a->valid = false;
        if (a->valid && a->seq == frame->seq && a->type == frame->type) return a;
    }
    return NULL;
}

static void remember(fb_core *c, const fb_frame *frame, uint8_t code)
{
    fb_answer *a = &c->answers[c->next_answer];
    c->next_answer = (uint8_t)((c->next_answer + 1) % FB_ANSWERS);
    a->seq = frame->seq;
    a->type = frame->type;
    a->code = code;
    a->at_us = c->now_us;
    a->valid = true;
}

static void count_gap(fb_core *c, uint8_t seq)
{
    uint8_t ahead = (uint8_t)(seq - c->last_seq);
    if (c->seen_seq && (ahead == 0 || ahead >= 128)) return; /* a repeated frame */
    if (c->seen_seq) c->stats.gaps += ahead - 1u;
    c->last_seq = seq;
    c->seen_seq = true;
}

static void handle(fb_core *c, const fb_frame *frame)
{
    bool wants_ack = (frame->flags & FB_ACK_REQ) != 0;
    const handler *found = NULL;
    for (size_t i = 0; i < sizeof handlers / sizeof *handlers; i++) {
        if (handlers[i].type == frame->type) found = &handlers[i];
    }
    if ((frame->flags & FB_REPLY) != 0 || frame->type >= 0x80) { /* our own words, echoed by the line */
        c->stats.unknown++;
        return;
    }
    if (frame->session == 0 ? found != NULL && !found->sessionless : frame->session != c->session) {
        c->stats.stale++;
        if (wants_ack) send_ack(c, frame, 0, FB_CODE_NO_SESSION);
        return;
    }
    if (found == NULL) {
        c->stats.unknown++;
        if (wants_ack) send_ack(c, frame, frame->session, FB_CODE_UNKNOWN_TYPE);
        return;
    }
    c->stats.frames++;
    if (frame->type == FB_TYPE_HELLO) {
        uint8_t code = on_hello(c, frame);
        if (code != FB_CODE_OK) send_ack(c, frame, 0, code);
        return;
    }
    count_gap(c, frame->seq);
    if (wants_ack) {
        const fb_answer *answer = remembered(c, frame);
        if (answer != NULL) {
            send_ack(c, frame, frame->session, answer->code);
            return;
        }
    }
    uint8_t code = found->act(c, frame);
    if (wants_ack) {
        remember(c, frame, code);
        send_ack(c, frame, frame->session, code);
    }
}

/* -- the interface ----------------------------------------------------------------------------------------------- */

void fb_init(fb_core *c, const fb_identity *identity, uint32_t now_us)
{
    clear(c, sizeof *c);
    c->identity = *identity;
    c->now_us = now_us;
    c->ticked_us = now_us;
    c->state = FB_STATE_IDLE;
    c->reported_state = FB_STATE_IDLE;
    c->after_stop = FB_STATE_SAFE;
    c->last_session = (uint8_t)identity->boot_id;
    c->random = identity->boot_id | 1u;
    c->temperature_dc = -32768;

    uint8_t payload[FB_SIZE_AXIS];
    fb_put(payload, FB_LEASE_CAP_US, 4);
    c->limits_crc = fb_crc32(0, payload, 4);
    for (uint8_t i = 0; i < FB_AXES; i++) {
        pack_axis(i, payload);
        c->limits_crc = fb_crc32(c->limits_crc, payload, FB_SIZE_AXIS);
    }
}

void fb_receive(fb_core *c, const uint8_t *bytes, size_t length, uint32_t now_us)
{
    fb_frame frame;
    advance(c, now_us);
    for (size_t i = 0; i < length; i++) {
        switch (fb_decode(&c->decoder, bytes[i], FB_SCHEMA_ID, &frame)) {
        case FB_DECODE_MORE: break;
        case FB_DECODE_FRAME: handle(c, &frame); break;
        case FB_DECODE_BAD_CRC: c->stats.crc_errors++; break;
        case FB_DECODE_BAD_COBS: c->stats.cobs_errors++; break;
        case FB_DECODE_OVERRUN: c->stats.overruns++; break;
        case FB_DECODE_UNKNOWN: c->stats.unknown++; break;
        }
    }
}

void fb_tick(fb_core *c, uint32_t now_us)
{
    advance(c, now_us);
    slew(c, now_us - c->ticked_us);
    c->ticked_us = now_us;
    if (c->state == FB_STATE_SAFE_STOP) {
        bool still = true;
        for (int i = 0; i < FB_AXES; i++) still = still && c->output[i] == 0;
        if (still) c->state = c->after_stop;
    }
    bool wanted = due(&c->state_stream, now_us);
    if (wanted || (c->state_stream.period_us != 0 && c->state != c->reported_state)) send_state(c);
    if (due(&c->stats_stream, now_us)) send_stats(c);
}

void fb_sent(fb_core *c, uint16_t bytes)
{
    for (uint16_t i = bytes; i < c->tx_length; i++) c->tx[i - bytes] = c->tx[i];
    c->tx_length = (uint16_t)(c->tx_length - bytes);
}
