# The resources of Chef's own that the cookbook declares, as far as it uses them. Packages are only noted.

require_relative 'stand_in'

class Chef
  class Template < Resource
    provides :template
    property :path, String, name_property: true
    property :cookbook, String
    property :source, String
    property :variables, Hash, default: {}
    property :owner, String
    property :group, String
    property :mode, String
    property :backup, [true, false, Integer]
    property :manage_symlink_source, [true, false]
    property :force_unlink, [true, false]

    def helpers(given = nil)
      @helpers = (@helpers || []) + [given].compact
    end

    def verify(command = nil)
      @verify = (@verify || []) + [command].compact
    end

    action :create do
      text = Chef.render(new_resource.source, new_resource.variables, new_resource.helpers)
      target = World.path(new_resource.path)
      in_the_way = File.symlink?(target) || (File.exist?(target) && !File.file?(target))
      may_replace = new_resource.force_unlink && new_resource.manage_symlink_source == false
      raise "#{target} is a link, and nobody said to replace it" if in_the_way && !may_replace

      content_changes = in_the_way || !File.exist?(target) || File.binread(target) != text.b
      put(text, target) if content_changes && !World.why_run
      judge_only(text) if World.why_run
      new_resource.updated = content_changes
    end

    action_class do
      # Chef's way: a hidden temporary file beside it, judged, then renamed.
      def put(text, target)
        name = ".chef-#{File.basename(target, '.*')}#{rand(1 << 32)}#{File.extname(target)}"
        inside = File.join(File.dirname(new_resource.path), name)
        File.binwrite(World.path(inside), text, perm: 0o600)
        judge(inside)
        File.chmod(new_resource.mode.to_i(8), World.path(inside))
        File.rename(World.path(inside), target)
      ensure
        FileUtils.rm_f(World.path(inside))
      end

      # In why-run too, of a copy in the directory for temporary files.
      def judge_only(text)
        inside = "/tmp/.chef-#{rand(1 << 32)}#{File.extname(new_resource.path)}"
        File.binwrite(World.path(inside), text, perm: 0o600)
        judge(inside)
      ensure
        FileUtils.rm_f(World.path(inside))
      end

      def judge(inside)
        new_resource.verify.each do |command|
          ok, said = World.run('sh', '-c', format(command, path: inside))
          next if ok

          raise Exceptions::ValidationFailed, "Proposed content for #{new_resource.path} failed verification #{command}\n#{said}"
        end
      end
    end
  end

  class Service < Resource
    provides :service
    property :service_name, String, name_property: true

    action :reload do
      if World.run('systemctl', 'is-active', '-q', new_resource.service_name).first
        World.run!('systemctl', 'reload', new_resource.service_name) unless World.why_run
        new_resource.updated = true
      end
    end

    { enable: 'is-enabled', start: 'is-active' }.each do |name, question|
      action name do
        unless World.run('systemctl', question, '-q', new_resource.service_name).first
          World.run!('systemctl', name.to_s, new_resource.service_name) unless World.why_run
          new_resource.updated = true
        end
      end
    end

    default_action :nothing
  end

  class Execute < Resource
    provides :execute
    default_action :run
    property :command, Array

    action :run do
      World.run!(*new_resource.command) unless World.why_run
      new_resource.updated = true
    end
  end

  # Fails, as a recipe of somebody else does.
  class Failing < Resource
    provides :failing

    action :run do
      raise 'somebody else failed'
    end
  end

  # Notifies when it runs, as a template that changed does.
  class Changing < Resource
    provides :changing

    action :run do
      new_resource.updated = true
    end
  end

  # Only noted, with everything that was asked of them.
  NOTED = []
  {
    apt_package: %i(version options), dpkg_package: %i(source options), apt_update: [], remote_file: %i(source checksum mode),
    directory: %i(mode), file: %i(content owner group mode)
  }.each do |type, names|
    Class.new(Resource) do
      provides type
      names.each { |name| property name, Object }
      %i(install upgrade create update remove).each do |action|
        action action do
          asked = names.to_h { |name| [name, new_resource.public_send(name)] }.compact
          NOTED << { 'type' => type, 'name' => new_resource.name, 'action' => action, 'asked' => asked }
          new_resource.updated = type == :file
        end
      end
      default_action %i(directory file remote_file).include?(type) ? :create : :install
    end
  end
end
