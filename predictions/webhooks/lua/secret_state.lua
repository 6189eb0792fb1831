-- Which of an owner's secrets sign. Given: owner, overlap_seconds.
-- Returns {number of the current one, number of the oldest one that still signs, until when it does or ''}.
local known = redis.call('HMGET', KEY.webhook_secret(given.owner), 'generation', 'oldest', 'rotated_at')
if not known[1] then return { 0, 0, '' } end
local generation, ends = tonumber(known[1]), known[3] + given.overlap_seconds
if ends <= tonumber(clock()) then return { generation, generation, '' } end
return { generation, tonumber(known[2]), string.format('%.6f', ends) }
