-- What every script may use: the clock, hashes, messages, events, and a prediction's place in its queue.

-- The arguments by name; one that was not given is an error, not nil.
local given = named('argument', cjson.decode(ARGV[1]))

-- Redis's own clock, so that leases do not depend on the workers' clocks agreeing: seconds since 1970, as text.
local function clock()
  local time = redis.call('TIME')
  return string.format('%d.%06d', time[1], time[2])
end

-- Write fields, a table of values by name, into a hash.
local function set(key, fields)
  local flat = {}
  for name, value in pairs(fields) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  redis.call('HSET', key, unpack(flat))
end

-- A Celery message: the template with its placeholders @ID@ and @TAG@ filled in.
local function message(template, id, tag)
  local filled = string.gsub(template, '@ID@', id)
  filled = string.gsub(filled, '@TAG@', tag)
  return filled
end

-- Tell those who follow a prediction. The stream keeps far more than three attempts at thirty seconds of music cause.
local function emit(id, name, data)
  redis.call('XADD', KEY.events(id), 'MAXLEN', '~', 4000, '*', 'event', name, 'data', data)
  redis.call('PUBLISH', CHANNEL.events, id)
end

-- The queue of a prediction's model; its workers take from it alone.
local function queue_of(id)
  return redis.call('HGET', KEY.prediction(id), 'queue') or QUEUE.generation
end

-- How many predictions of its queue wait before this one; -1 where it does not wait.
local function position(id)
  return redis.call('ZRANK', KEY.queued(queue_of(id)), id) or -1
end
