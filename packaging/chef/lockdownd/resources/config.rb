provides :lockdownd_config
unified_mode true

description 'Writes /etc/lockdownd/config.toml, and reloads the daemon when it changes. A file that does not check out is not written.'

property :settings, Hash, default: {}, coerce: proc { |value| LockdowndCookbook::RosterKeys.listed(LockdowndCookbook.plain(value)) },
         description: 'The keys of config.example.toml, as they are called there, with a hash for each table.'
property :mode, String,
         description: 'The mode, where settings does not say it.'
property :stack, String,
         description: 'The stack, where settings does not say it in host.'

default_action :create

action :create do
  settings = whole_settings
  LockdowndCookbook::Toml.toml_document(settings, "#{new_resource} settings")
  ask_for(settings)
end

# The daemon does not start without a file: what the package begins with takes its place.
action :remove do
  ask_for(LockdowndCookbook::AS_INSTALLED)
end

action_class do
  include LockdowndCookbook::Accumulated

  def ask_for(settings)
    files = files_of_this_run
    unless files.settings.nil? || files.settings == settings
      raise LockdowndCookbook::Refused, "#{new_resource} contradicts another lockdownd_config of this run: keep one"
    end

    files.settings(settings)
  end

  def whole_settings
    host = { 'stack' => new_resource.stack }.compact
    settings = new_resource.settings
    settings = agreed({ 'mode' => new_resource.mode }.compact, settings, '')
    return settings if host.empty?

    settings.merge('host' => agreed(host, settings['host'] || {}, 'host '))
  end

  # `given` and `settings` together; what both say has to be the same.
  def agreed(given, settings, where)
    given.each do |key, value|
      next if [nil, value].include?(settings[key])

      raise LockdowndCookbook::Refused, "#{new_resource} #{key} is #{value.inspect}, and settings says #{where}#{key} " \
                                        "#{settings[key].inspect}: keep one"
    end
    given.merge(settings.compact)
  end
end
