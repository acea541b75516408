-- The floor of a view: whatever its table said below that position is dead. Each bucket keeps it in the hash `floor`:
-- <view>           the position; it only rises
-- <view>|SWEEPING  there while rows below it may still be in the bucket; what updates say of their cause, but for the key
local floors = base .. 'floor'

local function raise_floor(view, position, cause)
  local held = call('HGET', floors, view)
  if held and held >= position then return 0 end
  call('HSET', floors, view, position, view .. '|SWEEPING', cause)
  return 1
end

-- A row becomes what the floor leaves of it: nothing, or a row without what was from below. Says whether that alters it.
local function sink(key, columns, quoted, floor)
  local have = call('HMGET', key, '.p', '.own')
  if not have[1] then return false end
  if have[1] < floor then
    return call('DEL', key) == 1
  end
  if not have[2] then return false end
  local row, changed = read_row(key, columns), false
  for _, name in ipairs(columns) do
    if row.from[name] ~= '' and row.from[name] < floor then
      row.from[name], row.value[name], changed = '', nil, true
    end
  end
  if changed then -- as a late delete does: what entities are told of the row must grow
    local deleted = floor .. string.rep('0', #digits_of(row.p) - #floor)
    row.d = row.d > deleted and row.d or deleted
    write_row(key, row, columns, quoted)
  end
  return changed
end
