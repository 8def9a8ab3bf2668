// A step of a shared library, for many pipelines:
//
//     @Library('reeve') _
//     reeveScan namespace: 'default', pod: 'web-app', container: 'web-container', form: 'hub'
//
// form is scan (reeve on the agent), container (its image) or hub. The scripts
// of ci/ are the library's resources/ci/.
def call(Map args = [:]) {
    def form = args.form ?: 'hub'
    if (!(form in ['scan', 'container', 'hub'])) {
        error "reeveScan: form ${form}: it must be scan, container or hub"
    }
    def secret = form == 'hub' ? string(credentialsId: 'reeve-token', variable: 'REEVE_TOKEN') : string(credentialsId: 'reeve-kubeconfig', variable: 'KUBECONFIG_CONTENT')
    writeFile file: 'ci/reeve.sh', text: libraryResource("ci/reeve-${form}.sh")
    withEnv(["TARGET_NAMESPACE=${args.namespace}", "TARGET_POD=${args.pod}", "TARGET_CONTAINER=${args.container}",
             "PROFILE_PATH=${args.profile ?: 'container-baseline'}", "THRESHOLD=${args.threshold ?: 'moderate'}"]) {
        withCredentials([secret]) {
            try {
                sh 'BUILD_KEY="$BUILD_TAG" sh ci/reeve.sh'
            } finally {
                junit allowEmptyResults: true, testResults: 'reeve-results/junit.xml'
                archiveArtifacts allowEmptyArchive: true, artifacts: 'reeve-results/**'
            }
        }
    }
}
