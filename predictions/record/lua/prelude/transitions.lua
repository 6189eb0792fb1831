-- Changes of a prediction's record, each with the events and the webhooks that tell of it.

-- Add an event to a prediction's stream. The limit is far more than three attempts at thirty seconds of music cause.
local function emit(id, name, data)
  redis.call('XADD', KEY.events(id), 'MAXLEN', '~', 4000, '*', 'event', name, 'data', data)
  redis.call('PUBLISH', CHANNEL.events, id)
end

local function percent(progress)
  if not progress then return -1 end
  local steps = cjson.decode(progress)
  return math.floor(100 * steps[1] / math.max(steps[2], 1))
end

-- Write fields, a flat list, into the record. Additions to logs and progress become events; new logs and an output
-- also become webhooks.
local function write_fields(id, fields)
  if #fields == 0 then return end
  local key = KEY.prediction(id)
  local before = redis.call('HMGET', key, 'logs', 'progress')
  local logs, progress = before[1] or '', before[2]
  redis.call('HSET', key, unpack(fields))
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'logs' and value ~= logs then
      if #value > #logs then emit(id, EVENT.logs, string.sub(value, #logs + 1)) end
      owe_webhook(id, WEBHOOK.logs)
    elseif name == 'progress' and percent(value) ~= percent(progress) then
      emit(id, EVENT.progress, value)
    elseif name == 'output_key' or name == 'output' then
      owe_webhook(id, WEBHOOK.output)
    end
  end
end

-- Have a prediction that runs wait again, with so many more suspicions that its worker died with it.
local function send_back(id, suspicions)
  local key = KEY.prediction(id)
  drop_lease(id)
  redis.call('HINCRBY', key, 'suspicions', suspicions)
  redis.call('HSET', key, 'status', STATUS.starting)
  redis.call('HDEL', key, 'progress')
  emit(id, EVENT.status, STATUS.starting)
  wait_again(queue_of(id), id, redis.call('HGET', key, 'created_at'))
  announce(id, 'RPUSH')
end

-- Undo what `reap` did to a prediction whose worker turned out to be alive.
local function take_up_again(id)
  local key = KEY.prediction(id)
  redis.call('HSET', key, 'status', STATUS.processing)
  redis.call('HINCRBY', key, 'suspicions', -1)
  if redis.call('HEXISTS', key, 'alone') == 1 then redis.call('HINCRBY', key, 'deaths', -1) end
  stop_waiting(queue_of(id), redis.call('HGET', key, 'owner'), id)
  redis.call('HINCRBY', KEY.counts(queue_of(id)), 'resumed', 1)
  emit(id, EVENT.status, STATUS.processing)
end

-- End a prediction with this status, for this cause (empty where it succeeded), and with these further fields, a flat list.
local function end_prediction(id, status, cause, fields)
  local key, time = KEY.prediction(id), clock()
  redis.call('HINCRBY', KEY.counts(queue_of(id)), FIELD.ended(status, cause), 1)
  local owner = redis.call('HGET', key, 'owner')
  write_fields(id, fields)
  redis.call('HSET', key, 'status', status, 'completed_at', time)
  stop_waiting(queue_of(id), owner, id)
  drop_lease(id)
  if redis.call('SREM', KEY.tenant_running(owner), id) == 1 then line_up_everywhere(owner) end
  redis.call('ZREM', KEY.deadlines, id)
  redis.call('ZADD', KEY.ended, time, id)
  emit(id, EVENT.status, status)
  -- The last webhook carries the last logs.
  if wants_webhook(id, WEBHOOK.completed) then stop_delivery(newest_delivery(id, WEBHOOK.logs), DELIVERY.superseded) end
  owe_webhook(id, WEBHOOK.completed)
  redis.call('PUBLISH', CHANNEL.ended, status .. ' ' .. id)
end

local function is_overdue(id)
  local deadline = redis.call('ZSCORE', KEY.deadlines, id)
  return deadline and tonumber(deadline) <= tonumber(clock())
end

-- Cancel what has not ended by its deadline, with this error; returns how many have been looked at.
local function cancel_overdue(limit, error)
  local overdue = redis.call('ZRANGEBYSCORE', KEY.deadlines, '-inf', clock(), 'LIMIT', 0, limit)
  for _, id in ipairs(overdue) do
    local key = KEY.prediction(id)
    local status = redis.call('HGET', key, 'status')
    if status and not TERMINAL[status] then
      redis.call('HSET', key, 'error', error)
      end_prediction(id, STATUS.canceled, CAUSE.deadline, {})
    end
    redis.call('ZREM', KEY.deadlines, id)
  end
  return #overdue
end
