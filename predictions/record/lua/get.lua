-- ARGV: id. Returns {flat record, queue position or -1}, or nothing where there is no such prediction.
local record = redis.call('HGETALL', 'musicgen:prediction:' .. ARGV[1])
if #record == 0 then return false end
return { record, position(ARGV[1]) }
