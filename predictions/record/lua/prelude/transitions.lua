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
    elseif name == 'output_key' then
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
  enqueue(id, 'RPUSH')
end

-- Undo what `reap` did to a prediction whose worker turned out to be alive.
local function take_up_again(id)
  local key = KEY.prediction(id)
  redis.call('HSET', key, 'status', STATUS.processing)
  redis.call('HINCRBY', key, 'suspicions', -1)
  if redis.call('HEXISTS', key, 'alone') == 1 then redis.call('HINCRBY', key, 'deaths', -1) end
  redis.call('ZREM', KEY.queued(queue_of(id)), id)
  emit(id, EVENT.status, STATUS.processing)
end

-- End a prediction with this status and these further fields, a flat list.
local function end_prediction(id, status, fields)
  local key, time = KEY.prediction(id), clock()
  write_fields(id, fields)
  redis.call('HSET', key, 'status', status, 'completed_at', time)
  redis.call('ZREM', KEY.queued(queue_of(id)), id)
  drop_lease(id)
  redis.call('ZADD', KEY.ended, time, id)
  emit(id, EVENT.status, status)
  -- The last webhook carries the last logs.
  if wants_webhook(id, WEBHOOK.completed) then stop_delivery(newest_delivery(id, WEBHOOK.logs), DELIVERY.superseded) end
  owe_webhook(id, WEBHOOK.completed)
  redis.call('PUBLISH', CHANNEL.ended, status .. ' ' .. id)
end
