-- A prediction. Given: id.
-- Returns {flat record, queue position or -1}; nothing where there is no such prediction.
local record = redis.call('HGETALL', KEY.prediction(given.id))
if #record == 0 then return false end
return { record, position(given.id) }
