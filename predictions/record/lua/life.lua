-- The steps of a prediction's life that several scripts take.

local function generation_message(id)
  local enqueues = redis.call('HGET', KEY.prediction(id), 'enqueues')
  local filled = string.gsub(message(TEMPLATE.generate, id, id .. ':' .. enqueues), '@QUEUE@', queue_of(id))
  return filled
end

-- Put a prediction into its queue; the message is a hint, `queued` the truth. `push` is LPUSH for the end of the queue,
-- RPUSH for its front: a prediction that comes back keeps the place that its creation gave it.
local function enqueue(id, push)
  local key, queue = KEY.prediction(id), queue_of(id)
  redis.call('HINCRBY', key, 'enqueues', 1)
  redis.call('HSET', key, 'enqueued_at', clock())
  redis.call('ZADD', KEY.queued(queue), redis.call('HGET', key, 'created_at'), id)
  redis.call(push, queue, generation_message(id))
end

-- Hold a prediction's lease for this many seconds from now.
local function lease(id, seconds)
  redis.call('ZADD', KEY.leases, clock() + seconds, id)
  redis.call('SADD', KEY.running(queue_of(id)), id)
end

local function drop_lease(id)
  redis.call('ZREM', KEY.leases, id)
  redis.call('SREM', KEY.running(queue_of(id)), id)
end

-- Whether the caller holds the lease: its attempt is the record's, and the prediction still runs.
local function holds_lease(id, attempt)
  local record = redis.call('HMGET', KEY.prediction(id), 'status', 'attempt')
  return record[1] == STATUS.processing and tonumber(record[2]) == attempt
end

local function percent(progress)
  if not progress then return -1 end
  local steps = cjson.decode(progress)
  return math.floor(100 * steps[1] / math.max(steps[2], 1))
end

-- Write fields, a list of {name, value}, into the record. What was added to logs and progress becomes events, in the
-- fields' order; logs and an output become webhooks.
local function write(id, fields)
  local key = KEY.prediction(id)
  local before = redis.call('HMGET', key, 'logs', 'progress')
  local logs, progress = before[1] or '', before[2]
  for _, field in ipairs(fields) do
    redis.call('HSET', key, field[1], field[2])
  end
  for _, field in ipairs(fields) do
    local name, value = field[1], field[2]
    if name == 'logs' and value ~= logs then
      if #value > #logs then emit(id, EVENT.logs, string.sub(value, #logs + 1)) end
      owe_webhook(id, WEBHOOK_EVENT.logs)
    elseif name == 'progress' and percent(value) ~= percent(progress) then
      emit(id, EVENT.progress, value)
    elseif name == 'output_key' then
      owe_webhook(id, WEBHOOK_EVENT.output)
    end
  end
end

-- End a prediction, with these further fields of its record.
local function finish(id, status, fields)
  local time = clock()
  write(id, fields)
  redis.call('HSET', KEY.prediction(id), 'status', status, 'completed_at', time)
  redis.call('ZREM', KEY.queued(queue_of(id)), id)
  drop_lease(id)
  redis.call('ZADD', KEY.ended, time, id)
  emit(id, EVENT.status, status)
  -- The last webhook carries the last logs.
  if wants_webhook(id, WEBHOOK_EVENT.completed) then
    stop_delivery(newest_delivery(id, WEBHOOK_EVENT.logs), DELIVERY.superseded)
  end
  owe_webhook(id, WEBHOOK_EVENT.completed)
  redis.call('PUBLISH', CHANNEL.ended, status .. ' ' .. id)
end
