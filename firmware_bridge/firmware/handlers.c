/* What each message does. */
#include "parts.h"

#define MIN_PERIOD_MS 5

/* -- sessions ---------------------------------------------------------------------------------------------------- */

static void begin_session(fb_core *c, uint32_t nonce)
{
    c->nonce = nonce;
    if (++c->last_session == 0) c->last_session = 1;
    c->session = c->last_session;
    c->lease_fresh = false;
    c->applied_us = 0;
    c->command_seq = 0;
    c->clamped = 0;
    c->state_stream.period_us = 0;
    c->stats_stream.period_us = 0;
    c->event_stream.sent_us = c->now_us - c->event_stream.period_us;
    fb_clear(c->answers, sizeof c->answers);
    if (c->state == FB_STATE_ACTIVE) fb_ramp_down(c, FB_STOP_CAUSE_NEW_SESSION);
    else if (c->state == FB_STATE_SAFE_STOP) c->after_stop = FB_STATE_LINKED;
    else if (!fb_latched(c)) c->state = FB_STATE_LINKED;
}

static uint8_t on_hello(fb_core *c, const fb_frame *frame)
{
    fbm_hello m;
    fb_frame answer;
    fbm_hello_unpack(&m, frame->payload);
    if (m.magic != FB_MAGIC) return FB_CODE_BAD_PAYLOAD;
    if (m.min_version > FB_VERSION || m.max_version < FB_VERSION) return FB_CODE_BAD_VERSION;
    if (c->session == 0 || c->nonce != m.nonce || c->state == FB_STATE_IDLE) begin_session(c, m.nonce);
    c->last_seq = frame->seq;
    c->seen_seq = true;

    fbm_hello_ack r = {
        .answered_seq = frame->seq,
        .version = FB_VERSION,
        .session = c->session,
        .axes = FB_AXES,
        .nonce = c->nonce,
        .boot_id = c->identity.boot_id,
        .schema_id = FB_SCHEMA_ID,
        .limits_crc = fb_limits_crc(c),
        .lease_cap_us = (uint32_t)fb_device_parameter(c, FB_PARAMETER_LEASE_CAP_MS) * 1000u,
        .reset_cause = c->identity.reset_cause,
        .max_body = FB_MAX_BODY,
        .trajectory_points = FB_TRAJECTORY_POINTS,
        .commit_us = FB_COMMIT_US,
    };
    for (size_t i = 0; i < sizeof r.uid; i++) r.uid[i] = c->identity.uid[i];
    for (size_t i = 0; i < sizeof r.firmware; i++) r.firmware[i] = c->identity.firmware[i];
    fbm_hello_ack_pack(&r, answer.payload);
    fb_send(c, FB_TYPE_HELLO_ACK, 0, FB_REPLY, &answer, FB_SIZE_HELLO_ACK, FB_ANSWER_ROOM);
    return FB_CODE_OK;
}

static uint8_t on_time_req(fb_core *c, const fb_frame *frame)
{
    fbm_time_req m;
    fb_frame answer;
    fbm_time_req_unpack(&m, frame->payload);
    uint64_t now = ((uint64_t)c->epoch << 32) | c->now_us;
    fbm_time_rsp r = {.t_host_ns = m.t_host_ns, .t_rx_us = now, .t_tx_us = now};
    fbm_time_rsp_pack(&r, answer.payload);
    fb_send(c, FB_TYPE_TIME_RSP, c->session, FB_REPLY, &answer, FB_SIZE_TIME_RSP, FB_ANSWER_ROOM);
    return FB_CODE_OK;
}

static uint8_t on_ping(fb_core *c, const fb_frame *frame)
{
    (void)c;
    (void)frame;
    return FB_CODE_OK;
}

/* -- permission -------------------------------------------------------------------------------------------------- */

/* LATE and TOO_EARLY are what a wrong idea of device time looks like from here. */
uint8_t fb_judge_deadline(fb_core *c, uint32_t deadline_us)
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
    fbm_lease_unpack(&m, frame->payload);
    uint8_t code = fb_judge_deadline(c, m.expire_us);
    if (code == FB_CODE_TOO_EARLY) c->stats.rejects++;
    if (code != FB_CODE_OK) return code;
    uint32_t cap_us = (uint32_t)fb_device_parameter(c, FB_PARAMETER_LEASE_CAP_MS) * 1000u;
    if (m.expire_us - c->now_us > cap_us) {
        m.expire_us = c->now_us + cap_us;
        c->stats.clamps++;
    }
    c->lease_fresh = true;
    c->lease_expire_us = m.expire_us;
    c->stats.leases++;
    if (m.engaged != 0) {
        c->engaged_once = true;
        c->disengaged = 0;
    } else if (c->state == FB_STATE_ACTIVE && c->engaged_once && ++c->disengaged >= FB_DISENGAGED_LEASES) {
        fb_ramp_down(c, FB_STOP_CAUSE_DISENGAGED);
    }
    return FB_CODE_OK;
}

/* A held axis goes on from where it is held, another from where it is measured: nothing jumps. */
static void power_up(fb_core *c)
{
    for (int i = 0; i < FB_AXES; i++) {
        if (fb_axis_mode[i] == FB_MODE_POSITION && c->drive[i] != FB_DRIVE_ON) {
            c->output[i] = c->position[i];
            c->place[i] = (int64_t)c->position[i] * 1000000;
        }
        c->drive[i] = FB_DRIVE_ON;
    }
}

static uint8_t on_arm(fb_core *c, const fb_frame *frame)
{
    fbm_arm m;
    fbm_arm_unpack(&m, frame->payload);
    if (fb_latched(c)) return FB_CODE_LATCHED;
    if (c->state != FB_STATE_LINKED && c->state != FB_STATE_SAFE) return FB_CODE_BAD_STATE;
    if (m.boot_id != c->identity.boot_id) return FB_CODE_WRONG_BOOT;
    if (m.limits_crc != fb_limits_crc(c)) return FB_CODE_WRONG_LIMITS;
    if (!c->lease_fresh) return FB_CODE_NO_LEASE;
    c->state = FB_STATE_ACTIVE;
    c->stop_cause = FB_STOP_CAUSE_NONE;
    c->armed_us = c->now_us;
    c->engaged_once = false;
    c->rejected = 0;
    power_up(c);
    return FB_CODE_OK;
}

static uint8_t on_disarm(fb_core *c, const fb_frame *frame)
{
    (void)frame;
    if (c->state == FB_STATE_ACTIVE) fb_ramp_down(c, FB_STOP_CAUSE_DISARMED);
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
    fbm_estop_clear_unpack(&m, frame->payload);
    if (!fb_latched(c)) return FB_CODE_BAD_STATE;
    if (m.challenge != c->challenge) return FB_CODE_WRONG_CHALLENGE;
    if ((c->fault_inputs | c->fault_measured) != 0) return FB_CODE_LATCHED;
    c->faults = 0;
    c->challenge = 0;
    c->state = FB_STATE_IDLE;
    return FB_CODE_OK;
}

/* -- commands ---------------------------------------------------------------------------------------------------- */

uint8_t fb_refuse_command(fb_core *c, uint8_t code)
{
    c->stats.rejects++;
    if (++c->rejected >= FB_REJECT_LIMIT) fb_ramp_down(c, FB_STOP_CAUSE_REJECTED_COMMANDS);
    return code;
}

void fb_accept_command(fb_core *c, const fb_frame *frame, uint8_t clamped)
{
    c->rejected = 0;
    c->clamped = clamped;
    if (clamped != 0) c->stats.clamps++;
    c->command_seq = frame->seq;
    c->applied_us = c->now_us != 0 ? c->now_us : 1;
}

static uint8_t judge_set_now(fb_core *c, const fbm_set_now *m)
{
    if (m->mode != FB_MODE_VELOCITY && m->mode != FB_MODE_POSITION) return FB_CODE_BAD_MODE;
    if (m->mask == 0 || m->mask >> FB_AXES != 0) return FB_CODE_BAD_AXIS;
    for (int i = 0; i < FB_AXES; i++) {
        if ((m->mask >> i & 1) != 0 && fb_axis_mode[i] != m->mode) return FB_CODE_BAD_MODE;
    }
    return fb_judge_deadline(c, m->valid_until_us);
}

static uint8_t on_set_now(fb_core *c, const fb_frame *frame)
{
    fbm_set_now m;
    uint8_t code = FB_CODE_BAD_PAYLOAD, clamped = 0;
    if (fb_latched(c)) return FB_CODE_LATCHED;
    if (c->state != FB_STATE_ACTIVE) return FB_CODE_BAD_STATE;
    if (frame->length == FB_SIZE_SET_NOW) {
        fbm_set_now_unpack(&m, frame->payload);
        code = judge_set_now(c, &m);
    }
    if (code == FB_CODE_LATE) return code;
    if (code != FB_CODE_OK) return fb_refuse_command(c, code);
#if FB_TRAJECTORY_POINTS > 0
    c->moving = false;
    c->queued = 0;
#endif
    for (int i = 0; i < FB_AXES; i++) {
        if ((m.mask >> i & 1) == 0) continue;
        const fb_limits *limits = &c->limits[i];
        int32_t fastest = (int32_t)limits->max_speed;
        bool speed = m.mode == FB_MODE_VELOCITY;
        c->target[i] =
            fb_clamp(m.target[i], speed ? -fastest : limits->min_position, speed ? fastest : limits->max_position);
        if (c->target[i] != m.target[i]) clamped |= (uint8_t)(1 << i);
        c->commanded[i] = true;
        c->valid_until_us[i] = m.valid_until_us;
    }
    fb_accept_command(c, frame, clamped);
    return FB_CODE_OK;
}

/* -- settings ---------------------------------------------------------------------------------------------------- */

static uint8_t on_param_get(fb_core *c, const fb_frame *frame)
{
    fbm_param_get m;
    fb_frame answer;
    fbm_param_get_unpack(&m, frame->payload);
    fbm_param r = {.parameter = m.parameter, .axis = m.axis};
    if (!fb_describe_parameter(c, &r)) return FB_CODE_BAD_PARAMETER;
    fbm_param_pack(&r, answer.payload);
    fb_send(c, FB_TYPE_PARAM, c->session, FB_REPLY, &answer, FB_SIZE_PARAM, FB_ANSWER_ROOM);
    return FB_CODE_OK;
}

static uint8_t on_param_set(fb_core *c, const fb_frame *frame)
{
    fbm_param_set m;
    int32_t low, high;
    fbm_param_set_unpack(&m, frame->payload);
    if (c->state != FB_STATE_LINKED) return FB_CODE_BAD_STATE;
    int index = fb_parameter_index(m.parameter, m.axis);
    if (index < 0) return FB_CODE_BAD_PARAMETER;
    fb_parameter_range(m.parameter, m.axis, &low, &high);
    if (m.value < low || m.value > high) return FB_CODE_BAD_VALUE;
    c->parameters[index] = m.value;
    return FB_CODE_OK;
}

static uint8_t on_limits_set(fb_core *c, const fb_frame *frame)
{
    fbm_limits_set m;
    fbm_limits_set_unpack(&m, frame->payload);
    return c->state != FB_STATE_LINKED ? FB_CODE_BAD_STATE : fb_set_limits(c, &m);
}

static uint8_t on_axis_get(fb_core *c, const fb_frame *frame)
{
    fbm_axis_get m;
    fb_frame answer;
    fbm_axis_get_unpack(&m, frame->payload);
    if (m.axis >= FB_AXES) return FB_CODE_BAD_AXIS;
    fb_pack_axis(c, m.axis, answer.payload);
    fb_send(c, FB_TYPE_AXIS, c->session, FB_REPLY, &answer, FB_SIZE_AXIS, FB_ANSWER_ROOM);
    return FB_CODE_OK;
}

/* -- reports ----------------------------------------------------------------------------------------------------- */

static uint8_t on_subscribe(fb_core *c, const fb_frame *frame)
{
    fbm_subscribe m;
    fbm_subscribe_unpack(&m, frame->payload);
    if (m.stream != FB_TYPE_STATE && m.stream != FB_TYPE_STATS) return FB_CODE_BAD_STREAM;
    if (m.period_ms != 0 && m.period_ms < MIN_PERIOD_MS) return FB_CODE_BAD_PAYLOAD;
    fb_stream *stream = m.stream == FB_TYPE_STATE ? &c->state_stream : &c->stats_stream;
    stream->period_us = (uint32_t)m.period_ms * 1000;
    stream->sent_us = c->now_us - stream->period_us; /* the first one is due at once */
    return FB_CODE_OK;
}

static uint8_t on_event_ack(fb_core *c, const fb_frame *frame)
{
    fbm_event_ack m;
    fbm_event_ack_unpack(&m, frame->payload);
    if (c->events == 0 || c->event[0].number != m.number) return FB_CODE_BAD_VALUE;
    c->events--;
    for (uint8_t k = 0; k < c->events; k++) c->event[k] = c->event[k + 1];
    c->event_stream.sent_us = c->now_us - c->event_stream.period_us; /* the next one is due at once */
    return FB_CODE_OK;
}

static const fb_handler handlers[] = {
    {FB_TYPE_HELLO, FB_SIZE_HELLO, true, on_hello},
    {FB_TYPE_TIME_REQ, FB_SIZE_TIME_REQ, false, on_time_req},
    {FB_TYPE_LEASE, FB_SIZE_LEASE, false, on_lease},
    {FB_TYPE_ARM, FB_SIZE_ARM, false, on_arm},
    {FB_TYPE_DISARM, FB_SIZE_DISARM, false, on_disarm},
    {FB_TYPE_ESTOP, FB_ANY_LENGTH, true, on_estop},
    {FB_TYPE_ESTOP_CLEAR, FB_SIZE_ESTOP_CLEAR, false, on_estop_clear},
    {FB_TYPE_SET_NOW, FB_ANY_LENGTH, false, on_set_now},
#if FB_TRAJECTORY_POINTS > 0
    {FB_TYPE_TRAJ_PUSH, FB_ANY_LENGTH, false, fb_on_traj_push},
#endif
    {FB_TYPE_PARAM_GET, FB_SIZE_PARAM_GET, false, on_param_get},
    {FB_TYPE_PARAM_SET, FB_SIZE_PARAM_SET, false, on_param_set},
    {FB_TYPE_LIMITS_SET, FB_SIZE_LIMITS_SET, false, on_limits_set},
    {FB_TYPE_AXIS_GET, FB_SIZE_AXIS_GET, false, on_axis_get},
    {FB_TYPE_SUBSCRIBE, FB_SIZE_SUBSCRIBE, false, on_subscribe},
    {FB_TYPE_EVENT_ACK, FB_SIZE_EVENT_ACK, false, on_event_ack},
    {FB_TYPE_PING, FB_SIZE_PING, true, on_ping},
};

const fb_handler *fb_find_handler(uint8_t type)
{
    for (size_t i = 0; i < sizeof handlers / sizeof *handlers; i++) {
        if (handlers[i].type == type) return &handlers[i];
    }
    return NULL;
}
