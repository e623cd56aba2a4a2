provides :lockdownd_lockdown
unified_mode true

description 'Ends every grant and every granted session, now. It does nothing unless it is notified.'

property :reason, String, default: 'lockdown by Chef',
         description: 'Why, for the records.'

action :run do
  reason = new_resource.reason
  LockdowndCookbook::Toml.toml(reason, "#{new_resource} reason")
  execute 'lockdownctl lockdown' do
    # A list: no shell reads the reason, and it is no option either.
    command ['lockdownctl', 'lockdown', "--reason=#{reason}"]
  end
end

# Has to come last: `action` replaces a default of :nothing by itself.
default_action :nothing
