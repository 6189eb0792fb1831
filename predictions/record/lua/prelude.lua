-- Prepended to every script: the clock, the message templates, and the transitions that several scripts make.
-- The clock is Redis's own, so that leases do not depend on the clocks of the workers agreeing.
--
-- What is kept, and where:
--   musicgen:prediction:{id}            hash    the record; the truth
--   musicgen:events:{id}                stream  its events, for whoever follows it
--   musicgen:events-channel             pubsub  ids of predictions with a new event: a hint, never the truth
--   musicgen:owner:{owner}              zset    an owner's predictions by creation time
--   musicgen:queues                     set     the queues that generate, one a model; {queue} below is one of them
--   musicgen:queued:{queue}             zset    ids that wait, by creation time
--   musicgen:leases                     zset    ids that run, by the time their lease ends
--   musicgen:running:{queue}            set     those of one queue
--   musicgen:ended                      zset    ids that have ended, by the time they did
--   musicgen:ended-channel              pubsub  "{status} {id}" of what ends: a hint, never the truth
--   musicgen:idempotency:{owner}:{key}  hash    id and body digest of an Idempotency-Key
--   musicgen:offered:{owner}:{digest}   list    id of a prediction whose answer was lost, for the next identical request
--   musicgen:webhooks                   zset    webhook-ids of pending deliveries, by the time of their next message
--   musicgen:delivery:{webhook-id}      hash    one webhook to be delivered, and every attempt at it
--   musicgen:deliveries:{id}            list    webhook-ids of a prediction's deliveries, oldest first
--   musicgen:file:{id}                  hash    an uploaded file's record
--   musicgen:files                      zset    uploaded files by upload time
--   musicgen:owner-files:{owner}        zset    those of one owner
--   musicgen:cards                      hash    of each queue, the model card that its workers announced last
--   musicgen:pace:{queue}:{version}     hash    how fast a model's workers were lately, see predictions/estimates/throughput.py
--   musicgen:workers:{queue}            zset    live workers, by the time their last sign of life expires
--   {queue}, webhooks                   lists   Celery's queues

local TERMINAL = { succeeded = true, failed = true, canceled = true }

local function clock()
  local time = redis.call('TIME')
  return string.format('%d.%06d', time[1], time[2])
end

-- A Celery message: `template` with the placeholders @ID@ and @TAG@ filled in.
local function message(template, id, tag)
  local filled = string.gsub(template, '@ID@', id)
  filled = string.gsub(filled, '@TAG@', tag)
  return filled
end

-- Tell those who follow a prediction. Far more are kept than three attempts at thirty seconds of music cause.
local function emit(id, name, data)
  redis.call('XADD', 'musicgen:events:' .. id, 'MAXLEN', '~', 4000, '*', 'event', name, 'data', data)
  redis.call('PUBLISH', 'musicgen:events-channel', id)
end

local function percent(progress)
  if not progress then return -1 end
  local steps = cjson.decode(progress)
  return math.floor(100 * steps[1] / math.max(steps[2], 1))
end

-- The queue of a prediction's model: its workers take from it alone.
local function queue_of(id)
  return redis.call('HGET', 'musicgen:prediction:' .. id, 'queue') or 'generation'
end

-- How many of its queue wait before a prediction; -1 where it does not wait.
local function position(id)
  return redis.call('ZRANK', 'musicgen:queued:' .. queue_of(id), id) or -1
end

local function generation_message(id, template)
  local enqueues = redis.call('HGET', 'musicgen:prediction:' .. id, 'enqueues')
  local filled = string.gsub(message(template, id, id .. ':' .. enqueues), '@QUEUE@', queue_of(id))
  return filled
end

-- Put a prediction into the queue; the message is a hint, `musicgen:queued:` the truth. `push` is LPUSH for the end of
-- the queue, RPUSH for its front: where a prediction comes back, it keeps the place that its creation gave it.
local function enqueue(id, template, push)
  local key, queue = 'musicgen:prediction:' .. id, queue_of(id)
  redis.call('HINCRBY', key, 'enqueues', 1)
  redis.call('HSET', key, 'enqueued_at', clock())
  redis.call('ZADD', 'musicgen:queued:' .. queue, redis.call('HGET', key, 'created_at'), id)
  redis.call(push, queue, generation_message(id, template))
end

-- Hold a prediction's lease for so many seconds from now, or drop it.
local function lease(id, seconds)
  redis.call('ZADD', 'musicgen:leases', clock() + seconds, id)
  redis.call('SADD', 'musicgen:running:' .. queue_of(id), id)
end

local function drop_lease(id)
  redis.call('ZREM', 'musicgen:leases', id)
  redis.call('SREM', 'musicgen:running:' .. queue_of(id), id)
end

-- Webhooks of these events say how things stand, not that something happened: they are numbered, sent at most every
-- half second, and a newer one takes the place of an older one.
local NUMBERED = { output = true, logs = true }

local function wants_webhook(id, event)
  local wanted = redis.call('HGET', 'musicgen:prediction:' .. id, 'webhook_events')
  return wanted and string.find(wanted, event, 1, true)
end

-- Stop a delivery that is still pending, because of `state`.
local function stop_delivery(delivery, state)
  local key = 'musicgen:delivery:' .. delivery
  if redis.call('HGET', key, 'state') ~= 'pending' then return end
  redis.call('HSET', key, 'state', state)
  redis.call('ZREM', 'musicgen:webhooks', delivery)
end

local function newest_delivery(id, event)
  return id .. '-' .. event .. '-' .. (redis.call('HGET', 'musicgen:prediction:' .. id, 'webhooks:' .. event) or 0)
end

-- Make an attempt due at once, by a message; should that get lost, another one follows a minute later.
local function enqueue_delivery(delivery, template)
  local time = clock()
  redis.call('HSET', 'musicgen:delivery:' .. delivery, 'state', 'pending', 'due', time, 'tries', 0)
  redis.call('ZADD', 'musicgen:webhooks', time + 60, delivery)
  redis.call('LPUSH', 'webhooks', message(template, delivery, delivery .. ':' .. time))
end

-- Owe the client a webhook. It stays owed in `musicgen:webhooks` until it is delivered or given up.
local function owe_webhook(id, event, template)
  local record = 'musicgen:prediction:' .. id
  if not wants_webhook(id, event) or redis.call('HEXISTS', record, 'webhook_gone') == 1 then return end
  local delivery = id .. '-' .. event
  if NUMBERED[event] then
    local newest = newest_delivery(id, event)
    local known = redis.call('HMGET', 'musicgen:delivery:' .. newest, 'state', 'tries')
    -- The body is made when it is sent: one that has not been sent yet will carry this as well.
    if known[1] == 'pending' and known[2] == '0' then return end
    stop_delivery(newest, 'superseded')
    delivery = delivery .. '-' .. redis.call('HINCRBY', record, 'webhooks:' .. event, 1)
  end
  redis.call('HSET', 'musicgen:delivery:' .. delivery, 'id', delivery, 'prediction', id, 'event', event,
    'created_at', clock(), 'attempts', 0)
  redis.call('RPUSH', 'musicgen:deliveries:' .. id, delivery)
  enqueue_delivery(delivery, template)
end

-- Write fields, a flat list, into the record, and tell of what has been added to logs and progress: those who follow it,
-- and by webhooks, which also tell of an output.
local function write(id, fields, webhook_template)
  if #fields == 0 then return end
  local key = 'musicgen:prediction:' .. id
  local before = redis.call('HMGET', key, 'logs', 'progress')
  local logs, progress = before[1] or '', before[2]
  redis.call('HSET', key, unpack(fields))
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'logs' and value ~= logs then
      if #value > #logs then emit(id, 'logs', string.sub(value, #logs + 1)) end
      owe_webhook(id, 'logs', webhook_template)
    elseif name == 'progress' and percent(value) ~= percent(progress) then
      emit(id, 'progress', value)
    elseif name == 'output_key' then
      owe_webhook(id, 'output', webhook_template)
    end
  end
end

-- End a prediction. `fields` is a flat list of further field, value pairs of the record.
local function finish(id, status, fields, webhook_template)
  local key = 'musicgen:prediction:' .. id
  local time = clock()
  write(id, fields, webhook_template)
  redis.call('HSET', key, 'status', status, 'completed_at', time)
  redis.call('ZREM', 'musicgen:queued:' .. queue_of(id), id)
  drop_lease(id)
  redis.call('ZADD', 'musicgen:ended', time, id)
  emit(id, 'status', status)
  -- It carries the last logs.
  if wants_webhook(id, 'completed') then stop_delivery(newest_delivery(id, 'logs'), 'superseded') end
  owe_webhook(id, 'completed', webhook_template)
  redis.call('PUBLISH', 'musicgen:ended-channel', status .. ' ' .. id)
end

-- Whether the caller holds the lease: its attempt is the record's, and the prediction still runs.
local function holds_lease(id, attempt)
  local record = redis.call('HMGET', 'musicgen:prediction:' .. id, 'status', 'attempt')
  return record[1] == 'processing' and record[2] == attempt
end
