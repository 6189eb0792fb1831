-- One prediction. Returns {flat record, queue position or -1}, or nothing where there is none.
local record = redis.call('HGETALL', KEY.prediction(given.id))
if #record == 0 then return false end
return { record, position(given.id) }
