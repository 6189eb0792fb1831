-- Queues, their messages, and the leases on what has been taken from them.

-- A Celery message: the template with the placeholders @ID@ and @TAG@ filled in.
local function message(template, id, tag)
  local filled = string.gsub(template, '@ID@', id)
  filled = string.gsub(filled, '@TAG@', tag)
  return filled
end

-- The queue of a prediction's model; nobody but that model's workers takes from it.
local function queue_of(id)
  return redis.call('HGET', KEY.prediction(id), 'queue') or QUEUE.generation
end

-- How many predictions wait before this one in its queue; -1 where it does not wait.
local function position(id)
  return redis.call('ZRANK', KEY.queued(queue_of(id)), id) or -1
end

local function generation_message(id)
  local enqueues = redis.call('HGET', KEY.prediction(id), 'enqueues')
  local filled = string.gsub(message(MESSAGE.generate, id, id .. ':' .. enqueues), '@QUEUE@', queue_of(id))
  return filled
end

-- Put a prediction into its queue. `push` is LPUSH for the end of the queue, RPUSH for its front: a prediction that
-- comes back keeps the place that its creation gave it.
local function enqueue(id, push)
  local key, queue = KEY.prediction(id), queue_of(id)
  redis.call('HINCRBY', key, 'enqueues', 1)
  redis.call('ZADD', KEY.queued(queue), redis.call('HGET', key, 'created_at'), id)
  redis.call(push, queue, generation_message(id))
end

-- Hold the lease on a prediction for this many seconds from now.
local function lease(id, seconds)
  redis.call('ZADD', KEY.leases, clock() + seconds, id)
  redis.call('SADD', KEY.running(queue_of(id)), id)
end

local function drop_lease(id)
  redis.call('ZREM', KEY.leases, id)
  redis.call('SREM', KEY.running(queue_of(id)), id)
end

-- Whether the caller may write: nobody has taken the prediction since the caller did, and it has not ended. A lease
-- that ran out unnoticed, while Redis or the worker was away, is no reason to throw away what has been made.
local function holds_lease(id, token)
  local record = redis.call('HMGET', KEY.prediction(id), 'status', 'lease_token')
  return record[2] == token and not TERMINAL[record[1]]
end

-- Whether a worker has died with it: it is then tried alone, so that it takes no neighbours along.
local function is_suspect(id)
  return tonumber(redis.call('HGET', KEY.prediction(id), 'suspicions') or 0) > 0
end

-- What a command with this token chose before, or nothing.
local function chosen_before(token)
  return redis.call('GET', KEY.chosen(token))
end

-- Remember what a command chose, for as long as it may be repeated.
local function remember_choice(token, choice)
  redis.call('SET', KEY.chosen(token), choice, 'EX', 600)
end
